// SPDX-License-Identifier: Apache-2.0
/* TLS: with certificates made here, and clients that have a good one, a foreign one, or none. */
#include "testing.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "api/server.h"
#include "api_fake.h"

#define TOKEN "00112233445566778899aabbccddeeff"

struct identity {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
    gnutls_datum_t key_pem;
    gnutls_datum_t certificate_pem;
};

static void must(int r)
{
    if (r < 0) {
        fail_msg("%s", gnutls_strerror(r));
    }
}

/* Signed by authority, or by itself when that is NULL; then it is an authority. */
static void identity_init(struct identity *identity, const char *name,
                          const struct identity *authority)
{
    static unsigned char serial;
    const struct identity *signer = authority != NULL ? authority : identity;
    must(gnutls_x509_privkey_init(&identity->key));
    must(gnutls_x509_privkey_generate(identity->key, GNUTLS_PK_ECDSA,
                                      GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    must(gnutls_x509_crt_init(&identity->certificate));
    gnutls_x509_crt_t crt = identity->certificate;
    serial++;
    must(gnutls_x509_crt_set_version(crt, 3));
    must(gnutls_x509_crt_set_serial(crt, &serial, 1));
    must(gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600));
    must(gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 3600));
    must(gnutls_x509_crt_set_key(crt, identity->key));
    must(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                       (unsigned)strlen(name)));
    must(gnutls_x509_crt_set_basic_constraints(crt, authority == NULL, -1));
    must(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9,
                                              GNUTLS_FSAN_SET));
    must(gnutls_x509_crt_sign2(crt, signer->certificate, signer->key, GNUTLS_DIG_SHA256, 0));
    must(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &identity->certificate_pem));
    must(gnutls_x509_privkey_export2(identity->key, GNUTLS_X509_FMT_PEM, &identity->key_pem));
}

static void identity_fini(struct identity *identity)
{
    gnutls_free(identity->key_pem.data);
    gnutls_free(identity->certificate_pem.data);
    gnutls_x509_crt_deinit(identity->certificate);
    gnutls_x509_privkey_deinit(identity->key);
}

static struct identity authority;
static struct identity server_identity;
static struct identity client_identity;
static struct identity stranger_authority;
static struct identity stranger;

static struct control *control;
static struct server *server;
static uint16_t port;

static int listen_fd(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    port = ntohs(addr.sin_port);
    return fd;
}

static void start(bool client_ca)
{
    struct error error = {0};
    control = fake_control_start();
    struct server_options options = {
        .control = control,
        .data_dir = "fake",
        .listen_fd = listen_fd(),
        .token = TOKEN,
        .tls_certificate = (const char *)server_identity.certificate_pem.data,
        .tls_key = (const char *)server_identity.key_pem.data,
        .tls_client_ca = client_ca ? (const char *)authority.certificate_pem.data : NULL,
    };
    if (server_start(&options, &server, &error) != 0) {
        fail_msg("%s", error.detail);
    }
}

static void stop(void)
{
    server_quiesce(server);
    assert_int_equal(control_stop(control), 0);
    server_stop(server);
}

/* The status of a GET with the token; 0 when there is no connection. The server's certificate is
 * checked. */
static int get(const struct identity *identity, const char *priorities)
{
    static const char request[] =
        "GET /volumes/v1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Authorization: Bearer " TOKEN "\r\n\r\n";
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    char answer[64] = "";
    int status = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    must(gnutls_certificate_allocate_credentials(&credentials));
    must(gnutls_certificate_set_x509_trust_mem(credentials, &authority.certificate_pem,
                                               GNUTLS_X509_FMT_PEM));
    if (identity != NULL) {
        must(gnutls_certificate_set_x509_key_mem(credentials, &identity->certificate_pem,
                                                 &identity->key_pem, GNUTLS_X509_FMT_PEM));
        gnutls_certificate_set_flags(credentials, GNUTLS_CERTIFICATE_SKIP_OCSP_RESPONSE_CHECK);
    }
    must(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT));
    must(gnutls_priority_set_direct(session, priorities, NULL));
    must(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials));
    gnutls_session_set_verify_cert(session, "localhost", 0);
    gnutls_transport_set_int(session, fd);
    gnutls_handshake_set_timeout(session, 10000);
    int r;
    do {
        r = gnutls_handshake(session);
    } while (r < 0 && gnutls_error_is_fatal(r) == 0);
    if (r == 0 && gnutls_record_send(session, request, sizeof(request) - 1) > 0) {
        ssize_t n;
        do {
            n = gnutls_record_recv(session, answer, sizeof(answer) - 1);
        } while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
        sscanf(answer, "HTTP/1.1 %d", &status);
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    close(fd);
    return status;
}

static void tls_serves_who_has_the_token(void **state)
{
    (void)state;
    start(false);
    assert_int_equal(get(NULL, "NORMAL"), 200);
    assert_int_equal(get(NULL, "NORMAL:-VERS-ALL:+VERS-TLS1.2"), 200);
    stop();
}

static void old_versions_are_refused(void **state)
{
    (void)state;
    start(false);
    assert_int_equal(get(NULL, "LEGACY:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0"), 0);
    stop();
}

static void a_client_needs_a_certificate_of_the_authority(void **state)
{
    (void)state;
    start(true);
    assert_int_equal(get(&client_identity, "NORMAL"), 200);
    assert_int_equal(get(&client_identity, "NORMAL:-VERS-ALL:+VERS-TLS1.2"), 200);
    assert_int_equal(get(&stranger, "NORMAL"), 401);
    assert_int_equal(get(NULL, "NORMAL"), 401);
    stop();
}

static void certificates_that_cannot_be_used_are_told(void **state)
{
    const char *certificate = (const char *)server_identity.certificate_pem.data;
    const char *key = (const char *)server_identity.key_pem.data;
    const char *other_key = (const char *)client_identity.key_pem.data;
    const struct {
        const char *certificate;
        const char *key;
        const char *client_ca;
        const char *part;
    } cases[] = {
        {"", key, NULL, "certificate and its key"},
        {"nonsense", key, NULL, "certificate and its key"},
        {certificate, "", NULL, "certificate and its key"},
        {certificate, other_key, NULL, "certificate and its key"},
        {certificate, key, "", "client authority"},
        {certificate, key, "nonsense", "client authority"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error error = {0};
        struct server *none = NULL;
        struct server_options options = {
            .data_dir = "fake",
            .listen_fd = listen_fd(),
            .token = TOKEN,
            .tls_certificate = cases[i].certificate,
            .tls_key = cases[i].key,
            .tls_client_ca = cases[i].client_ca,
        };
        assert_int_not_equal(server_start(&options, &none, &error), 0);
        assert_non_null(strstr(error.detail, cases[i].part));
        assert_null(none);
        close(options.listen_fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls_serves_who_has_the_token),
        cmocka_unit_test(old_versions_are_refused),
        cmocka_unit_test(a_client_needs_a_certificate_of_the_authority),
        cmocka_unit_test(certificates_that_cannot_be_used_are_told),
    };
    signal(SIGPIPE, SIG_IGN);
    identity_init(&authority, "authority", NULL);
    identity_init(&server_identity, "server", &authority);
    identity_init(&client_identity, "client", &authority);
    identity_init(&stranger_authority, "other", NULL);
    identity_init(&stranger, "stranger", &stranger_authority);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    identity_fini(&stranger);
    identity_fini(&stranger_authority);
    identity_fini(&client_identity);
    identity_fini(&server_identity);
    identity_fini(&authority);
    return failed;
}
