/*
 * load: mail without mail. Speaks the milter protocol, version 6, to one unix socket in the place of a Postfix,
 * counts the verdicts, and prints rates and latencies as one JSON object.
 *
 *     load [-c CONNECTIONS] [-k CLIENTS] [-m MESSAGES A CONNECTION] [-n MESSAGES] SOCKET SCENARIOS
 *
 * As Postfix 3.7 does it (src/milter/milter8.c): all actions and steps are offered; what the milter declines is not sent; a
 * command that needs no reply waits in the buffer for the next one that does; the queue id is not known at the
 * first recipient; a refused recipient is shown to a milter that asked for such, and its answer changes nothing.
 *
 * SCENARIOS has one item a line, fields parted by tabs. {n} is the number of the message, {c} that of the
 * client as two octets ("3.141"): connections come from CLIENTS in turn, 1,000 if not told. Lines that may be
 * repeated are used in turn.
 *
 *     scenario  NAME  WEIGHT               begins a scenario
 *     client    NAME  IPv4  HELO           scenarios with the same client line share their connections
 *     login     NAME                       the client is authenticated
 *     from      <ADDRESS>                  may be repeated
 *     rcpt      <ADDRESS>                  may be repeated
 *     refused                              the mail server itself refuses the recipient
 *     header    NAME  VALUE                one header field
 *     body      OCTETS
 *     expect    VERDICT                    may be repeated: any of them is right; none: all are
 *
 * A verdict is "stage:answer", with the changes made at end of message: "rcpt:550", "data:accept", "eom:accept+chgfrom".
 *
 * Exit status: 0, 1 when verdicts were wrong or connections lost, 2 when it could not measure.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { ALL_ACTIONS = 0x1ff, ALL_STEPS = 0x1fffff, SHOW_REFUSED = 0x800, LEADING_SPACE = 0x100000 };
enum { BODY_CHUNK = 65535, LONGEST_REPLY = 1 << 20, PATIENCE_MS = 30000 };

enum step { NEGOTIATE, CONNECT, HELO, BETWEEN, MAIL, RCPT, DATA, HEADER, EOH, BODY, EOM, MESSAGE, SESSION, STEPS };

/* How Postfix sends each step: which flag leaves it out, which one spares the reply, which macros go before it. */
static const struct {
    const char *name;
    char command;
    uint32_t left_out, unanswered;
    int macro_list; /* the number by which SETSYMLIST names the list */
    const char *macros;
} STEP[STEPS] = {
    [NEGOTIATE] = {"negotiate", 'O', 0, 0, -1, ""},
    [CONNECT] = {"connect", 'C', 0x1, 0x1000, 0, "j {daemon_name} {daemon_addr} v _"},
    [HELO] = {"helo", 'H', 0x2, 0x2000, 1, ""},
    [BETWEEN] = {"between", 0, 0, 0, -1, ""},
    [MAIL] = {"mail", 'M', 0x4, 0x4000, 2, "i {auth_type} {auth_authen} {mail_addr} {mail_host} {mail_mailer}"},
    [RCPT] = {"rcpt", 'R', 0x8, 0x8000, 3, "i {rcpt_addr} {rcpt_host} {rcpt_mailer}"},
    [DATA] = {"data", 'T', 0x200, 0x10000, 4, "i"},
    [HEADER] = {"header", 'L', 0x20, 0x80, 6, "i"},
    [EOH] = {"eoh", 'N', 0x40, 0x40000, 6, "i"},
    [BODY] = {"body", 'B', 0x10, 0x80000, 5, "i"},
    [EOM] = {"eom", 'E', 0, 0, 5, "i"},
    [MESSAGE] = {"message", 0, 0, 0, -1, ""},
    [SESSION] = {"session", 0, 0, 0, -1, ""},
};
enum { MACRO_LISTS = 7 };

/* What a milter may change at end of message, in the order in which a verdict names it. */
static const struct { const char *replies, *name; } CHANGE[] = {
    {"e", "chgfrom"}, {"-", "delrcpt"}, {"+2", "addrcpt"}, {"h", "addheader"}, {"i", "insheader"},
    {"m", "chgheader"}, {"b", "replbody"}, {"q", "quarantine"},
};
enum { CHANGES = sizeof CHANGE / sizeof *CHANGE };

struct buffer { char *bytes; size_t length, room; };
struct list { char **item; size_t length; };
struct samples { float *us; size_t length, room; };
struct verdict { char text[96]; uint64_t count; struct verdict *next; };

struct scenario {
    const char *name, *login;
    int weight, credit;
    bool refused;
    struct list from, rcpt, header, value, expect;
    char *body;
    size_t body_length;
    uint64_t begun, wrong;
    struct verdict *verdicts;
    struct group *group;
};

/* Scenarios of the same kind of client: a connection stays within them. */
struct group { const char *client, *address, *helo; int weight, credit; };

struct connection {
    int fd;
    bool waiting, accepted, skipping, writable_wanted;
    enum step step;
    uint32_t declined;          /* steps and replies the milter does not want */
    char *macros[MACRO_LISTS];  /* its own choice of macros, or null */
    struct group *group;
    struct scenario *scenario;
    int messages;
    uint64_t number, message;
    size_t turn, header, body;
    unsigned changes;
    char verdict[96], queue_id[24];
    double asked, message_began, session_began;
    struct buffer in, out;
};

static struct scenario scenarios[64];
static struct group groups[64];
static int scenario_count, group_count, poll_fd;
static long connections = 10, clients = 1000, per_connection = 1;
static uint64_t total = 2500, issued, opened, messages, sessions, replies, wrong, lost;
static struct samples latency[STEPS];
static struct sockaddr_un target = {.sun_family = AF_UNIX};

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(2);
}

static void *grown(void *memory, size_t size)
{
    if (!(memory = realloc(memory, size))) fail("out of memory");
    return memory;
}

static double microseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec * 1e6 + (double) t.tv_nsec / 1e3;
}

/* ---- samples ---- */

static void sample(struct samples *s, double us)
{
    if (s->length == s->room) s->us = grown(s->us, (s->room = s->room * 2 + 1024) * sizeof *s->us);
    s->us[s->length++] = (float) us;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *) a, y = *(const float *) b;
    return (x > y) - (x < y);
}

static double quantile(const struct samples *s, double q)
{
    size_t rank = (size_t) ceil(q * (double) s->length);
    return (double) s->us[rank ? rank - 1 : 0];
}

/* ---- buffers and packets ---- */

static void put(struct buffer *b, const void *bytes, size_t length)
{
    if (b->length + length > b->room) b->bytes = grown(b->bytes, b->room = (b->length + length) * 2);
    memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
}

static void put_number(struct buffer *b, uint32_t number)
{
    number = htonl(number);
    put(b, &number, sizeof number);
}

/* A template without its closing NUL. */
static void put_expanded(struct buffer *b, const char *text, const struct connection *c)
{
    char number[24];
    for (const char *brace; (brace = strchr(text, '{')); text = brace + 3) {
        put(b, text, (size_t) (brace - text));
        if (!strncmp(brace, "{n}", 3)) snprintf(number, sizeof number, "%llu", (unsigned long long) c->message);
        else if (!strncmp(brace, "{c}", 3))
            snprintf(number, sizeof number, "%d.%d", (int) (c->number / 250 % 4), (int) (c->number % 250 + 1));
        else fail("only {n} and {c} may stand in braces: %s", text);
        put(b, number, strlen(number));
    }
    put(b, text, strlen(text));
}

static void put_string(struct buffer *b, const char *text, const struct connection *c)
{
    put_expanded(b, text, c);
    put(b, "", 1);
}

static size_t begin_packet(struct buffer *b, char command)
{
    size_t start = b->length;
    put_number(b, 0);
    put(b, &command, 1);
    return start;
}

static void end_packet(struct buffer *b, size_t start)
{
    uint32_t length = htonl((uint32_t) (b->length - start - 4));
    memcpy(b->bytes + start, &length, sizeof length);
}

static void put_bare_command(struct buffer *b, char command) { end_packet(b, begin_packet(b, command)); }

/* ---- what is said at each step ---- */

static const char *in_turn(const struct list *l, size_t turn) { return l->item[turn % l->length]; }

static void put_without_brackets(struct buffer *b, const char *address, const struct connection *c)
{
    size_t start = b->length;
    put_expanded(b, address, c);
    if (b->length - start >= 2 && b->bytes[start] == '<') {
        b->length -= 2;
        memmove(b->bytes + start, b->bytes + start + 1, b->length - start);
    }
}

/* The value of a macro as Postfix would give it now; false where it has none. */
static bool put_macro(struct buffer *b, const char *name, const struct connection *c)
{
    const struct scenario *s = c->scenario;
    const char *from = s ? in_turn(&s->from, c->turn) : "", *rcpt = s ? in_turn(&s->rcpt, c->turn) : "";
    const char *domain = strrchr(rcpt, '@');

#define IS(text) (!strcmp(name, text))
    if (IS("j") || IS("{daemon_name}")) put(b, "mx.example.com", 14);
    else if (IS("{daemon_addr}")) put(b, "192.0.2.1", 9);
    else if (IS("{daemon_port}")) put(b, "25", 2);
    else if (IS("v")) put(b, "Postfix 3.7.11", 14);
    else if (IS("{client_addr}")) put_expanded(b, c->group->address, c);
    else if (IS("{client_name}") || IS("{client_ptr}")) put_expanded(b, c->group->client, c);
    else if (IS("{client_port}")) put(b, "40000", 5);
    else if (IS("_")) {
        put_expanded(b, c->group->client, c);
        put(b, " [", 2);
        put_expanded(b, c->group->address, c);
        put(b, "]", 1);
    } else if (IS("i") && c->step > RCPT) put(b, c->queue_id, strlen(c->queue_id));
    else if (IS("{auth_authen}") && s && s->login) put(b, s->login, strlen(s->login));
    else if (IS("{auth_type}") && s && s->login) put(b, "PLAIN", 5);
    else if (IS("{mail_addr}") && s) put_without_brackets(b, from, c);
    else if (IS("{mail_mailer}") && s) put(b, "local", 5);
    else if (IS("{mail_host}") && s) put(b, "", 0);
    else if (IS("{rcpt_mailer}") && s) put(b, s->refused ? "error" : s->login ? "smtp" : "local", s->refused ? 5 : s->login ? 4 : 5);
    else if (IS("{rcpt_host}") && s && s->refused) put(b, "5.1.1", 5);
    else if (IS("{rcpt_host}") && domain) put(b, domain + 1, strcspn(domain + 1, ">"));
    else if (IS("{rcpt_addr}") && s && s->refused) put(b, "Recipient address rejected: User unknown", 40);
    else if (IS("{rcpt_addr}") && s) put_without_brackets(b, rcpt, c);
    else return false;
#undef IS
    put(b, "", 1);
    return true;
}

static void put_macros(struct connection *c)
{
    int number = STEP[c->step].macro_list;
    if (number < 0) return;
    const char *wanted = c->macros[number] ? c->macros[number] : STEP[c->step].macros;
    size_t start = begin_packet(&c->out, 'D'), length, empty;

    put(&c->out, &STEP[c->step].command, 1);
    empty = c->out.length;
    for (wanted += strspn(wanted, " ,"); *wanted; wanted += length, wanted += strspn(wanted, " ,")) {
        char name[64];
        size_t mark = c->out.length;
        length = strcspn(wanted, " ,");
        snprintf(name, sizeof name, "%.*s", (int) length, wanted);
        put(&c->out, name, strlen(name) + 1);
        if (!put_macro(&c->out, name, c)) c->out.length = mark;
    }
    if (c->out.length == empty) c->out.length = start;
    else end_packet(&c->out, start);
}

static void put_command(struct connection *c)
{
    const struct scenario *s = c->scenario;
    struct buffer *b = &c->out;
    put_macros(c);
    size_t start = begin_packet(b, STEP[c->step].command), chunk;

    switch (c->step) {
    case NEGOTIATE:
        put_number(b, 6);
        put_number(b, ALL_ACTIONS);
        put_number(b, ALL_STEPS);
        break;
    case CONNECT:
        put_string(b, c->group->client, c);
        put(b, "4\x9c\x40", 3); /* IPv4, port 40000 */
        put_string(b, c->group->address, c);
        break;
    case HELO: put_string(b, c->group->helo, c); break;
    case MAIL: put_string(b, in_turn(&s->from, c->turn), c); break;
    case RCPT: put_string(b, in_turn(&s->rcpt, c->turn), c); break;
    case HEADER:
        put_string(b, s->header.item[c->header], c);
        if (c->declined & LEADING_SPACE) put(b, " ", 1);
        put_string(b, s->value.item[c->header++], c);
        break;
    case BODY:
        chunk = s->body_length - c->body;
        if (chunk > BODY_CHUNK) chunk = BODY_CHUNK;
        put(b, s->body + c->body, chunk);
        c->body += chunk;
        break;
    default: break;
    }
    end_packet(b, start);
}

/* ---- connections ---- */

static void close_connection(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    c->in.length = c->out.length = 0;
    for (int i = 0; i < MACRO_LISTS; i++) {
        free(c->macros[i]);
        c->macros[i] = NULL;
    }
}

static void count_verdict(struct connection *c, const char *text)
{
    struct scenario *s = c->scenario;
    struct verdict **v = &s->verdicts;
    bool right = !s->expect.length;

    for (size_t i = 0; i < s->expect.length; i++) right |= !strcmp(s->expect.item[i], text);
    s->wrong += !right;
    wrong += !right;
    while (*v && strcmp((*v)->text, text)) v = &(*v)->next;
    if (!*v) {
        *v = memset(grown(NULL, sizeof **v), 0, sizeof **v);
        snprintf((*v)->text, sizeof (*v)->text, "%s", text);
    }
    (*v)->count++;
    sample(&latency[MESSAGE], microseconds() - c->message_began);
    messages++;
}

static void lose(struct connection *c, const char *why)
{
    if (lost++ < 3) fprintf(stderr, "load: a connection was lost at %s: %s\n", STEP[c->step].name, why);
    if (c->step > BETWEEN) {
        char text[96];
        snprintf(text, sizeof text, "%s:lost", STEP[c->step].name);
        count_verdict(c, text);
    }
    close_connection(c);
    if (lost > 200) fail("too many lost connections");
}

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poll_fd, operation, c->fd, &event)) fail("epoll: %s", strerror(errno));
}

static void write_out(struct connection *c)
{
    size_t done = 0;
    while (done < c->out.length) {
        ssize_t n = send(c->fd, c->out.bytes + done, c->out.length - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            lose(c, strerror(errno));
            return;
        }
        done += (size_t) n;
    }
    c->out.length -= done;
    memmove(c->out.bytes, c->out.bytes + done, c->out.length);
    if (c->writable_wanted != (c->out.length > 0)) {
        c->writable_wanted = c->out.length > 0;
        watch(c, EPOLL_CTL_MOD, EPOLLIN | (c->writable_wanted ? (uint32_t) EPOLLOUT : 0));
    }
}

/* Smooth weighted turns: the mix is the same in every run, and evenly spread within it. */
static struct group *next_group(void)
{
    struct group *best = groups;
    int sum = 0;
    for (struct group *g = groups; g < groups + group_count; g++) {
        g->credit += g->weight;
        sum += g->weight;
        if (g->credit > best->credit) best = g;
    }
    best->credit -= sum;
    return best;
}

static struct scenario *next_scenario(const struct group *group)
{
    struct scenario *best = NULL;
    for (struct scenario *s = scenarios; s < scenarios + scenario_count; s++) {
        if (s->group != group) continue;
        s->credit += s->weight;
        if (!best || s->credit > best->credit) best = s;
    }
    best->credit -= group->weight;
    return best;
}

/* False when the listen queue is full: try again later. */
static bool open_connection(struct connection *c)
{
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *) &target, sizeof target)) {
        if (errno != EAGAIN) fail("%s: %s", target.sun_path, strerror(errno));
        close(c->fd);
        c->fd = -1;
        return false;
    }
    c->number = opened++ % clients;
    c->group = next_group();
    c->scenario = NULL;
    c->messages = 0;
    c->message = issued++;
    c->accepted = c->skipping = c->writable_wanted = false;
    c->declined = 0;
    c->step = NEGOTIATE;
    c->session_began = microseconds();
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    return true;
}

static bool begin_message(struct connection *c)
{
    /* the first was set aside when the connection was opened */
    if (c->messages && (c->messages >= per_connection || issued >= total)) return false;
    if (c->messages++) c->message = issued++;
    c->scenario = next_scenario(c->group);
    c->turn = (size_t) c->scenario->begun++;
    c->header = c->body = 0;
    c->changes = 0;
    snprintf(c->verdict, sizeof c->verdict, "mta");
    snprintf(c->queue_id, sizeof c->queue_id, "4X%08llxz", (unsigned long long) c->message);
    c->message_began = microseconds();
    c->step = MAIL;
    return true;
}

static void quit(struct connection *c)
{
    put_bare_command(&c->out, 'Q');
    write_out(c);
    if (c->fd < 0) return;
    sample(&latency[SESSION], microseconds() - c->session_began);
    sessions++;
    close_connection(c);
}

static bool is_due(const struct connection *c)
{
    const struct scenario *s = c->scenario;
    if (c->declined & STEP[c->step].left_out) return false;
    if (c->step == RCPT) return !s->refused || c->declined & SHOW_REFUSED;
    if (c->step == HEADER) return !c->skipping && c->header < s->header.length;
    if (c->step == BODY) return !c->skipping && c->body < s->body_length;
    return true;
}

static void next_step(struct connection *c)
{
    c->step++;
    c->skipping = false;
    /* smtpd empties its buffer when it hands the milter over to cleanup */
    if (c->step == HEADER) write_out(c);
}

/* Say what is due, up to the next thing that has to be answered. */
static void go_on(struct connection *c)
{
    while (c->fd >= 0) {
        if (c->step == BETWEEN) {
            if (!begin_message(c)) {
                quit(c);
                return;
            }
            if (c->accepted) {
                count_verdict(c, "connect:accept");
                c->step = BETWEEN;
                continue;
            }
        }
        if (c->step == DATA && c->scenario->refused) {
            put_bare_command(&c->out, 'A');
            count_verdict(c, c->verdict);
            c->step = BETWEEN;
        } else if (!is_due(c)) {
            next_step(c);
        } else {
            put_command(c);
            if (!(c->declined & STEP[c->step].unanswered)) {
                c->asked = microseconds();
                c->waiting = true;
                write_out(c);
                return;
            }
            if (c->step != HEADER && c->step != BODY) next_step(c);
        }
    }
}

/* ---- replies ---- */

static void take_negotiation(struct connection *c, const char *reply, size_t length)
{
    uint32_t number[3];
    const char *end = reply + length;
    if (length < 12) {
        lose(c, "negotiation: short reply");
        return;
    }
    memcpy(number, reply, sizeof number);
    c->declined = ntohl(number[2]);
    if (ntohl(number[0]) != 6 || c->declined & ~(uint32_t) ALL_STEPS) {
        lose(c, "negotiation: not what was offered");
        return;
    }
    for (reply += 12; end - reply > 4;) {
        uint32_t list;
        memcpy(&list, reply, sizeof list);
        list = ntohl(list);
        reply += 4;
        size_t size = strnlen(reply, (size_t) (end - reply));
        if (list < MACRO_LISTS) {
            free(c->macros[list]);
            c->macros[list] = strndup(reply, size);
        }
        reply += size + 1;
    }
}

static void describe(struct connection *c, char answer, const char *text, size_t length)
{
    static const char *const word[] = {
        ['a'] = "accept", ['c'] = "continue", ['d'] = "discard", ['r'] = "reject", ['s'] = "skip", ['t'] = "tempfail",
        ['4'] = "shutdown", ['f'] = "connfail",
    };
    bool is_code = answer == 'y' && length >= 3 && isdigit(text[0]) && isdigit(text[1]) && isdigit(text[2]);
    int used = is_code ? snprintf(c->verdict, sizeof c->verdict, "%s:%.3s", STEP[c->step].name, text)
                       : snprintf(c->verdict, sizeof c->verdict, "%s:%s", STEP[c->step].name, answer == 'y' ? "?" : word[(int) answer]);
    for (unsigned i = 0; i < CHANGES; i++)
        if (c->changes & 1u << i) used += snprintf(c->verdict + used, sizeof c->verdict - (size_t) used, "+%s", CHANGE[i].name);
}

static void take_reply(struct connection *c, char answer, const char *text, size_t length)
{
    bool ends_session = strchr("4f", answer) || (answer == 'y' && length >= 3 && !memcmp(text, "421", 3));
    replies++;
    if (answer == 'p') return; /* progress: it is still at work */
    if (c->step == EOM)
        for (unsigned i = 0; i < CHANGES; i++)
            if (strchr(CHANGE[i].replies, answer)) {
                c->changes |= 1u << i;
                return;
            }
    sample(&latency[c->step], microseconds() - c->asked);
    c->waiting = false;
    if (c->step == NEGOTIATE) {
        if (answer == 'O') take_negotiation(c, text, length);
        else lose(c, "no answer to the negotiation");
        next_step(c);
    } else if (!strchr("acdrsty4f", answer)) {
        lose(c, "unknown reply");
    } else if (c->step == RCPT && c->scenario->refused) {
        describe(c, answer, text, length);
        memmove(c->verdict + 4, c->verdict, strlen(c->verdict) + 1);
        memcpy(c->verdict, "mta+", 4);
        next_step(c);
    } else if (c->step < BETWEEN && answer == 'a') {
        c->accepted = true;
        c->step = BETWEEN;
    } else if (c->step != EOM && strchr("cs", answer)) {
        if (answer == 's') c->skipping = true;
        if (c->step != HEADER && c->step != BODY) next_step(c);
    } else {
        enum step at = c->step;
        if (at < BETWEEN) begin_message(c); /* the first message shares the fate of its connection */
        c->step = at;
        describe(c, c->step == EOM && answer == 'c' ? 'a' : answer, text, length);
        count_verdict(c, c->verdict);
        if (at > BETWEEN && at != EOM && !strchr("ad", answer)) put_bare_command(&c->out, 'A');
        if (ends_session || at < BETWEEN) c->messages = (int) per_connection;
        c->step = BETWEEN;
    }
    go_on(c);
}

static void read_in(struct connection *c)
{
    char bytes[16384];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    size_t done = 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        lose(c, n ? strerror(errno) : "closed by the milter");
        return;
    }
    put(&c->in, bytes, (size_t) n);
    while (c->fd >= 0 && c->in.length - done >= 5) {
        uint32_t length;
        const char *packet = c->in.bytes + done + 4;
        memcpy(&length, c->in.bytes + done, sizeof length);
        length = ntohl(length);
        if (length < 1 || length > LONGEST_REPLY || !c->waiting) lose(c, c->waiting ? "bad length" : "a reply that nobody asked for");
        else if (c->in.length - done < 4 + (size_t) length) break;
        else take_reply(c, packet[0], packet + 1, length - 1);
        done += 4 + (size_t) length;
    }
    if (c->fd < 0) return;
    c->in.length -= done;
    memmove(c->in.bytes, c->in.bytes + done, c->in.length);
}

static void run(void)
{
    struct connection *all = memset(grown(NULL, (size_t) connections * sizeof *all), 0, (size_t) connections * sizeof *all);
    struct epoll_event event[256];

    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < connections; i++) all[i].fd = -1;
    for (;;) {
        bool queue_full = false, any = false;
        for (struct connection *c = all; c < all + connections; c++) {
            if (c->fd < 0 && !queue_full && issued < total) {
                if (open_connection(c)) go_on(c);
                else queue_full = true;
            }
            any |= c->fd >= 0;
        }
        if (!any && !queue_full && issued >= total) return;
        int n = epoll_wait(poll_fd, event, 256, queue_full ? 1 : PATIENCE_MS);
        if (n == 0 && !queue_full) fail("no answer for %d s", PATIENCE_MS / 1000);
        for (int i = 0; i < n; i++) {
            struct connection *c = event[i].data.ptr;
            if (c->fd >= 0 && event[i].events & EPOLLOUT) write_out(c);
            if (c->fd >= 0 && event[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_in(c);
        }
    }
}

/* ---- the scenario file, and the figures ---- */

static void append(struct list *l, char *text)
{
    l->item = grown(l->item, (l->length + 1) * sizeof *l->item);
    l->item[l->length++] = text;
}

static struct group *group_of(char *field[4])
{
    struct group *g = groups;
    for (; g < groups + group_count; g++)
        if (!strcmp(g->client, field[1]) && !strcmp(g->address, field[2]) && !strcmp(g->helo, field[3])) return g;
    if (group_count == 64) fail("too many kinds of client");
    *g = (struct group){.client = strdup(field[1]), .address = strdup(field[2]), .helo = strdup(field[3])};
    group_count++;
    return g;
}

static void take_line(char *field[4], int fields)
{
    struct scenario *s = scenarios + scenario_count - 1;
    size_t i = 0;

#define IS(word, n) (!strcmp(field[0], word) && fields == (n) && (scenario_count || (n) == 3))
    if (IS("scenario", 3) && scenario_count < 64) {
        for (; field[1][i]; i++)
            if (!isalnum(field[1][i]) && field[1][i] != '-') fail("a scenario's name is letters, digits and hyphens: %s", field[1]);
        scenarios[scenario_count++] = (struct scenario){.name = strdup(field[1]), .weight = atoi(field[2])};
    } else if (!s || s < scenarios) fail("the first line begins a scenario");
    else if (IS("client", 4)) s->group = group_of(field);
    else if (IS("login", 2)) s->login = strdup(field[1]);
    else if (IS("from", 2)) append(&s->from, strdup(field[1]));
    else if (IS("rcpt", 2)) append(&s->rcpt, strdup(field[1]));
    else if (IS("refused", 1)) s->refused = true;
    else if (IS("expect", 2)) append(&s->expect, strdup(field[1]));
    else if (IS("header", 3)) {
        append(&s->header, strdup(field[1]));
        append(&s->value, strdup(field[2]));
    } else if (IS("body", 2)) {
        s->body_length = strtoul(field[1], NULL, 10);
        s->body = grown(NULL, s->body_length + 1);
        for (; i < s->body_length; i++) s->body[i] = i % 76 == 74 ? '\r' : i % 76 == 75 ? '\n' : (char) ('a' + i % 23);
    } else fail("not understood: %s, with %d fields", field[0], fields);
#undef IS
}

static void read_scenarios(const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;

    if (!file) fail("%s: %s", path, strerror(errno));
    while (getline(&line, &room, file) >= 0) {
        char *field[4] = {NULL}, *rest = line;
        int fields = 0;
        line[strcspn(line, "\n")] = 0;
        if (!*line || *line == '#') continue;
        while (fields < 4 && rest) field[fields++] = strsep(&rest, "\t");
        take_line(field, fields);
    }
    free(line);
    fclose(file);
    for (struct scenario *s = scenarios; s < scenarios + scenario_count; s++) {
        if (!s->group || !s->from.length || !s->rcpt.length || s->weight < 1) fail("%s: client, from, rcpt or weight missing", s->name);
        s->group->weight += s->weight;
    }
    if (!scenario_count) fail("%s: no scenario", path);
}

static void print_figures(double seconds)
{
    struct rusage own;
    const char *comma = "";

    getrusage(RUSAGE_SELF, &own);
    printf("{\"messages\": %llu, \"sessions\": %llu, \"seconds\": %.4f, \"rate\": %.1f, \"replies\": %llu, \"wrong\": %llu, \"lost\": %llu,\n",
           (unsigned long long) messages, (unsigned long long) sessions, seconds, (double) messages / seconds,
           (unsigned long long) replies, (unsigned long long) wrong, (unsigned long long) lost);
    printf(" \"own_cpu_seconds\": %.3f,\n \"latency_us\": {", (double) (own.ru_utime.tv_sec + own.ru_stime.tv_sec)
           + (double) (own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6);
    for (int i = 0; i < STEPS; i++) {
        struct samples *s = &latency[i];
        if (!s->length) continue;
        qsort(s->us, s->length, sizeof *s->us, ascending);
        printf("%s\n  \"%s\": {\"count\": %zu, \"p50\": %.1f, \"p95\": %.1f, \"p99\": %.1f, \"max\": %.1f}", comma, STEP[i].name, s->length,
               quantile(s, 0.5), quantile(s, 0.95), quantile(s, 0.99), quantile(s, 1));
        comma = ",";
    }
    printf("},\n \"scenarios\": {");
    for (struct scenario *s = scenarios; s < scenarios + scenario_count; s++) {
        printf("%s\n  \"%s\": {\"wrong\": %llu, \"verdicts\": {", s == scenarios ? "" : ",", s->name, (unsigned long long) s->wrong);
        for (struct verdict *v = s->verdicts; v; v = v->next)
            printf("%s\"%s\": %llu", v == s->verdicts ? "" : ", ", v->text, (unsigned long long) v->count);
        printf("}}");
    }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, "c:k:m:n:")) != -1;) {
        if (option == 'c') connections = atol(optarg);
        else if (option == 'k') clients = atol(optarg);
        else if (option == 'm') per_connection = atol(optarg);
        else if (option == 'n') total = strtoull(optarg, NULL, 10);
        else return 2;
    }
    if (argc - optind != 2 || connections < 1 || connections > 10000 || clients < 1 || per_connection < 1 || total < 1)
        fail("usage: load [-c CONNECTIONS] [-k CLIENTS] [-m MESSAGES A CONNECTION] [-n MESSAGES] SOCKET SCENARIOS");
    if (strlen(argv[optind]) >= sizeof target.sun_path) fail("the socket's path is too long");
    strcpy(target.sun_path, argv[optind]);
    read_scenarios(argv[optind + 1]);
    double began = microseconds();
    run();
    print_figures((microseconds() - began) / 1e6);
    return wrong || lost ? 1 : 0;
}
