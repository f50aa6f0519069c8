// SPDX-License-Identifier: Apache-2.0
/*
 * The error table: one row per cause. No include guard: included with ERROR_ROW defined.
 *
 * Columns: name, code word, ReturnValue, HTTP status, errno, title.
 */
#define NO_RV ERROR_NO_RETURN_VALUE
/* clang-format off */
ERROR_ROW(NONE,                 "none",                   0,                     200,  0,            "No error")
/* protocol: the method was never called */
ERROR_ROW(BAD_JSON,             "bad_json",               NO_RV,                 400, -EINVAL,       "The body is not a JSON object")
ERROR_ROW(UNKNOWN_MEMBER,       "unknown_member",         NO_RV,                 400, -EINVAL,       "Unknown parameter")
ERROR_ROW(OUT_PARAMETER,        "out_parameter",          NO_RV,                 400, -EINVAL,       "Output parameter supplied")
ERROR_ROW(BAD_QUERY,            "bad_query",              NO_RV,                 400, -EINVAL,       "Bad query string")
ERROR_ROW(BAD_REQUEST,          "bad_request",            NO_RV,                 400, -EINVAL,       "Bad request")
ERROR_ROW(UNAUTHORIZED,         "unauthorized",           NO_RV,                 401, -EACCES,       "Token missing or wrong")
ERROR_ROW(FORBIDDEN_HOST,       "forbidden_host",         NO_RV,                 403, -EACCES,       "Host or Origin not allowed")
ERROR_ROW(NOT_FOUND,            "not_found",              NO_RV,                 404, -ENOENT,       "No such resource")
ERROR_ROW(METHOD_NOT_ALLOWED,   "method_not_allowed",     NO_RV,                 405, -EINVAL,       "Verb not allowed here")
ERROR_ROW(CONFLICT,             "conflict",               NO_RV,                 409, -EBUSY,        "The object is in use")
ERROR_ROW(TOO_LARGE,            "too_large",              NO_RV,                 413, -EFBIG,        "Body too large")
ERROR_ROW(URI_TOO_LONG,         "uri_too_long",           NO_RV,                 414, -EFBIG,        "Address too long")
ERROR_ROW(UNSUPPORTED_MEDIA,    "unsupported_media_type", NO_RV,                 415, -EINVAL,       "Content type not supported")
ERROR_ROW(IDEMPOTENCY_REUSED,   "idempotency_key_reused", NO_RV,                 422, -EINVAL,       "Idempotency-Key used with another request")
ERROR_ROW(UNKNOWN_CODING,       "unsupported_transfer_encoding", NO_RV,          501, -EOPNOTSUPP,   "Transfer-Encoding not supported")
ERROR_ROW(SHUTTING_DOWN,        "shutting_down",          NO_RV,                 503, -ESHUTDOWN,    "The service is stopping")
ERROR_ROW(NOT_READY,            "not_ready",              NO_RV,                 503, -EIO,          "The service is not ready")
ERROR_ROW(OVERLOADED,           "overloaded",             NO_RV,                 503, -EBUSY,        "Too many requests are waiting")
/* 1 Not Supported */
ERROR_ROW(NOT_SUPPORTED,        "not_supported",          1,                     501, -EOPNOTSUPP,   "Not supported")
/* 3 Timeout */
ERROR_ROW(TIMEOUT,              "timeout",                3,                     504, -ETIMEDOUT,    "Timeout")
/* 4 Failed */
ERROR_ROW(ILLEGAL_STATE,        "illegal_state",          4,                     409, -EBUSY,        "The state does not allow this operation")
ERROR_ROW(TARGET_TOO_SMALL,     "target_too_small",       4,                     422, -ENOSPC,       "The target is smaller than the source")
ERROR_ROW(INCOMPATIBLE,         "incompatible_element",   4,                     422, -EINVAL,       "The element does not suit")
ERROR_ROW(NOT_FROM_A_POOL,      "not_from_a_pool",        4,                     422, -EINVAL,       "The element was not made from a pool")
ERROR_ROW(LUN_CHANGED,          "lun_changed",            4,                     409, -ESTALE,       "The LUN is not the one that was registered")
ERROR_ROW(NO_SPACE,             "no_space",               4,                     507, -ENOSPC,       "Not enough space")
ERROR_ROW(REMOTE_UNREACHABLE,   "remote_unreachable",     4,                     502, -ENOTCONN,     "The remote side does not answer")
ERROR_ROW(REMOTE_REFUSED,       "remote_refused",         4,                     502, -ECONNREFUSED, "The remote side refused")
ERROR_ROW(REMOTE_ERROR,         "remote_error",           4,                     502, -EIO,          "The remote side failed")
ERROR_ROW(ADDRESS_NOT_ALLOWED,  "address_not_allowed",    4,                     422, -EACCES,       "The address may not be dialled")
ERROR_ROW(GROUP_NOT_EMPTY,      "group_not_empty",        4,                     409, -EBUSY,        "The group has members")
ERROR_ROW(LIMIT_REACHED,        "limit_reached",          4,                     422, -ENOSPC,       "A limit was reached")
ERROR_ROW(COPY_FAILED,          "copy_failed",            4,                     500, -EIO,          "The copy failed")
ERROR_ROW(VERIFY_MISMATCH,      "verify_mismatch",        4,                     500, -EILSEQ,       "The target differs from the source")
ERROR_ROW(TERMINATED,           "terminated",             4,                     409, -ECANCELED,    "The job was terminated")
ERROR_ROW(INTERNAL,             "internal",               4,                     500, -EIO,          "Internal error")
ERROR_ROW(STORE_FAILED,         "store_failed",           4,                     500, -EIO,          "The records could not be written")
ERROR_ROW(NO_MEMORY,            "no_memory",              4,                     500, -ENOMEM,       "Out of memory")
/* 5 Invalid Parameter */
ERROR_ROW(INVALID_PARAMETER,    "invalid_parameter",      5,                     400, -EINVAL,       "Invalid parameter")
ERROR_ROW(MISSING_PARAMETER,    "missing_parameter",      5,                     400, -EINVAL,       "A required parameter is missing")
ERROR_ROW(WRONG_TYPE,           "wrong_type",             5,                     400, -EINVAL,       "Wrong type")
ERROR_ROW(BAD_VALUE,            "bad_value",              5,                     400, -EINVAL,       "Value not allowed")
ERROR_ROW(NO_SUCH_OBJECT,       "no_such_object",         5,                     400, -ENOENT,       "The reference leads nowhere")
ERROR_ROW(WRONG_CLASS,          "wrong_class",            5,                     400, -EINVAL,       "The reference names an object of another class")
/* 6 In Use */
ERROR_ROW(IN_USE,               "in_use",                 6,                     409, -EBUSY,        "In use")
/* codes of single methods */
ERROR_ROW(PROPERTY_UNSUPPORTED, "property_not_supported", 7,                     422, -EOPNOTSUPP,   "Property is not supported")
ERROR_ROW(NO_INFORMATION,       "information_not_available", 7,                  422, -ENODATA,      "Information is not available")
ERROR_ROW(GROUP_REPLICATED,     "element_in_relationship", 7,                    409, -EBUSY,        "An element is in a replication relationship")
ERROR_ROW(NO_SUCH_GROUP,        "no_such_group",          7,                     400, -ENOENT,       "The group does not exist")
ERROR_ROW(NOT_A_MEMBER,         "not_a_member",           8,                     400, -ENOENT,       "The member is not in the group")
ERROR_ROW(PIPE_BUSY,            "busy",                   4096,                  409, -EBUSY,        "Busy")
ERROR_ROW(SCAN_CONNECTION_TYPE, "invalid_connection_type", 4096,                 400, -EINVAL,       "Invalid connection type")
ERROR_ROW(SCAN_INITIATOR,       "invalid_initiator",      4097,                  400, -EINVAL,       "Invalid initiator")
ERROR_ROW(SCAN_NO_TARGET,       "no_matching_target",     4098,                  422, -ENOENT,       "No matching target found")
ERROR_ROW(SCAN_NO_LU,           "no_matching_logical_unit", 4099,                422, -ENOENT,       "No matching logical unit found")
ERROR_ROW(EXPOSE_LUN,           "invalid_logical_unit",   4097,                  400, -EINVAL,       "Invalid logical unit ID")
ERROR_ROW(EXPOSE_INITIATOR,     "invalid_initiator_port", 4098,                  400, -EINVAL,       "Invalid initiator port ID")
ERROR_ROW(EXPOSE_TARGET,        "invalid_target_port",    4099,                  400, -EINVAL,       "Invalid target port ID")
ERROR_ROW(EXPOSE_PERMISSION,    "invalid_permission",     4100,                  400, -EINVAL,       "Invalid permission")
ERROR_ROW(NOT_EXPOSED,          "not_exposed",            4100,                  409, -ENOENT,       "Target/initiator combination not exposed")
ERROR_ROW(EXPOSE_ALREADY,       "already_exposed",        4101,                  409, -EEXIST,       "Target/initiator combination already exposed")
ERROR_ROW(EXPOSE_NUMBER_IN_USE, "logical_unit_number_in_use", 4102,              409, -EBUSY,        "Requested logical unit number in use")
ERROR_ROW(EXPOSE_MAXIMUM,       "maximum_map_count",      4103,                  422, -ENOSPC,       "Maximum Map Count exceeded")
ERROR_ROW(SIZE_NOT_SUPPORTED,   "size_not_supported",     4097,                  422, -ERANGE,       "Size not supported")
ERROR_ROW(JOB_TRANSITION,       "invalid_state_transition", 4097,                409, -EBUSY,        "Invalid state transition")
ERROR_ROW(JOB_TIMEOUT_PARAM,    "timeout_parameter_not_supported", 4098,         422, -EOPNOTSUPP,   "Use of the timeout parameter is not supported")
/* clang-format on */
#undef NO_RV
