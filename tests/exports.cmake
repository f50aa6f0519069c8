# SPDX-License-Identifier: Apache-2.0
smirror_unit_test(exports hosting target block base PkgConfig::ISCSI)
