/*
 * empty: a milter in C on libmilter that decides nothing. It is the base of all ratios: less than this, a milter on
 * libmilter cannot do.
 *
 *     empty SOCKET all|lean
 *
 * all: everything but the body is sent, and each step is answered. lean: only the recipient and the end of message are answered;
 * DATA and the end of the headers are not sent, the rest is sent without waiting for a reply.
 */
#include <libmilter/mfapi.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool lean;
static sfsistat unanswered = SMFIS_CONTINUE;

static sfsistat negotiate(SMFICTX *context, unsigned long actions, unsigned long steps, unsigned long unused2, unsigned long unused3,
                          unsigned long *our_actions, unsigned long *our_steps, unsigned long *our2, unsigned long *our3)
{
    (void) context, (void) unused2, (void) unused3;
    *our_actions = actions;
    *our_steps = steps & (SMFIP_NOBODY | SMFIP_NOUNKNOWN);
    if (lean)
        *our_steps |= steps & (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_HDR | SMFIP_NODATA | SMFIP_NOEOH);
    *our2 = *our3 = 0;
    return SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *c, char *host, _SOCK_ADDR *address) { (void) c, (void) host, (void) address; return unanswered; }
static sfsistat on_helo(SMFICTX *c, char *name) { (void) c, (void) name; return unanswered; }
static sfsistat on_mail(SMFICTX *c, char **arguments) { (void) c, (void) arguments; return unanswered; }
static sfsistat on_rcpt(SMFICTX *c, char **arguments) { (void) c, (void) arguments; return SMFIS_CONTINUE; }
static sfsistat on_header(SMFICTX *c, char *name, char *value) { (void) c, (void) name, (void) value; return unanswered; }
static sfsistat on_anything(SMFICTX *c) { (void) c; return SMFIS_CONTINUE; }

int main(int argc, char **argv)
{
    if (argc != 3 || (strcmp(argv[2], "all") && strcmp(argv[2], "lean"))) {
        fputs("usage: empty SOCKET all|lean\n", stderr);
        return 2;
    }
    lean = !strcmp(argv[2], "lean");
    if (lean) unanswered = SMFIS_NOREPLY;

    struct smfiDesc milter = {
        .xxfi_name = "empty",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_ADDRCPT | SMFIF_DELRCPT | SMFIF_CHGFROM,
        .xxfi_negotiate = negotiate,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_data = lean ? NULL : on_anything,
        .xxfi_header = on_header,
        .xxfi_eoh = lean ? NULL : on_anything,
        .xxfi_eom = on_anything,
        .xxfi_abort = on_anything,
        .xxfi_close = on_anything,
    };
    unlink(argv[1]);
    if (smfi_setconn(argv[1]) == MI_FAILURE || smfi_register(milter) == MI_FAILURE || smfi_setbacklog(1024) == MI_FAILURE) return 1;
    return smfi_main() == MI_FAILURE;
}
