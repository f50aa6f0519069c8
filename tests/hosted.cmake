# SPDX-License-Identifier: Apache-2.0
smirror_unit_test(hosting_array hosting replication block base)
