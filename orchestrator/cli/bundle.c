/* SPDX-License-Identifier: BSD-3-Clause */
/* support-bundle: the folder, its list, the archive. See bundle.h. */
#include "orchestrator/cli/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "orchestrator/cli/commands.h"
#include "orchestrator/doctor/spawn.h"

enum { PACK_MS = 120 * 1000 };

void bundle_gap(struct bundle *b, const char *what, const char *why, ...)
{
    va_list args;
    fprintf(b->missing, "%s: ", what);
    va_start(args, why);
    vfprintf(b->missing, why, args);
    va_end(args);
    fputc('\n', b->missing);
    b->gaps++;
}

/* Makes the folders of a path below the bundle's own. */
static void make_folders(char *path, size_t from)
{
    for (char *at = path + from; (at = strchr(at, '/')); at++) {
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
}

static void list(struct bundle *b, const char *path, const char *text, size_t bytes)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof sum + 1];
    crypto_hash_sha256(sum, (const unsigned char *)text, bytes);
    fprintf(b->sums, "%s  %s\n", sodium_bin2hex(hex, sizeof hex, sum, sizeof sum), path);
}

/* Names in it come from the controller and from files, who may be wrong. */
static bool leads_out(const char *below)
{
    for (const char *at = below; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (!strncmp(at, "..", 2) && (at[2] == '/' || !at[2]))
            return true;
    }
    return false;
}

void bundle_put(struct bundle *b, char *text, size_t bytes, const char *path, ...)
{
    char below[300], whole[800];
    va_list args;
    va_start(args, path);
    vsnprintf(below, sizeof below, path, args);
    va_end(args);
    if (leads_out(below)) {
        bundle_gap(b, below, "that is no place in a bundle");
        return;
    }
    b->blots += redact_text(&b->secrets, text, bytes); /* before it is cut: half a secret is one, too */
    if (bytes > BUNDLE_FILE_MAX) {
        bundle_gap(b, below, "%zu bytes; the first %d are here", bytes, BUNDLE_FILE_MAX);
        bytes = BUNDLE_FILE_MAX;
    }
    if (b->bytes + bytes > BUNDLE_MAX) {
        bundle_gap(b, below, "the bundle is full, %d MiB", BUNDLE_MAX >> 20);
        return;
    }
    snprintf(whole, sizeof whole, "%s/%s/%s", b->scratch, b->name, below);
    make_folders(whole, strlen(b->scratch) + strlen(b->name) + 2);
    FILE *f = fopen(whole, "wb");
    if (!f || fwrite(text, 1, bytes, f) != bytes)
        bundle_gap(b, below, "%s", strerror(errno));
    else {
        list(b, below, text, bytes);
        b->files++;
        b->bytes += bytes;
    }
    if (f)
        fclose(f);
}

void bundle_put_json(struct bundle *b, json_t *o, const char *path)
{
    char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_ENCODE_ANY) : NULL;
    if (text)
        bundle_put(b, text, strlen(text), "%s", path);
    free(text);
    json_decref(o);
}

void bundle_put_tail(struct bundle *b, const char *file, uint32_t most, const char *path)
{
    struct stat st;
    /* Who may write into run_dir is not who asks for the bundle: links from there are not followed. */
    int named = file == b->patient.d.file ? 0 : O_NOFOLLOW;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | named);
    char *text = malloc(most);
    if (fd < 0 || !text || fstat(fd, &st)) {
        if (fd < 0 || text)
            bundle_gap(b, path, "%s: %s", file, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        bundle_gap(b, path, "%s is no ordinary file", file);
    } else {
        off_t from = st.st_size > most ? st.st_size - most : 0;
        ssize_t n = pread(fd, text, most, from), skip = 0;
        char *line = from && n > 0 ? memchr(text, '\n', (size_t)n) : NULL;
        if (line)
            skip = line + 1 - text;
        if (n < 0)
            bundle_gap(b, path, "%s: %s", file, strerror(errno));
        else
            bundle_put(b, text + skip, (size_t)(n - skip), "%s", path);
    }
    free(text);
    if (fd >= 0)
        close(fd);
}

/* --- the folder, the archive --------------------------------------------------------------------- */

int bundle_open(struct bundle *b)
{
    const char *where = getenv("TMPDIR");
    char path[600], stamp[32], host[40] = "host";
    time_t now = time(NULL);
    struct tm tm;
    gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (*c == '/' || (unsigned char)*c <= ' ')
            *c = '_';
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    snprintf(b->name, sizeof b->name, "lethe-support-%s-%s", host, stamp);
    snprintf(b->scratch, sizeof b->scratch, "%.200s/lethe-support-XXXXXX", where && *where ? where : "/tmp");
    umask(077);
    if (sodium_init() < 0 || !mkdtemp(b->scratch)) {
        int error = errno;
        *b->scratch = '\0';
        snprintf(b->name, sizeof b->name, "%.90s", where && *where ? where : "/tmp");
        return -error;
    }
    snprintf(path, sizeof path, "%s/%s", b->scratch, b->name);
    int rc = mkdir(path, 0700) ? -errno : 0;
    snprintf(path, sizeof path, "%s/%s/SHA256SUMS", b->scratch, b->name);
    b->sums = fopen(path, "w");
    snprintf(path, sizeof path, "%s/%s/MISSING", b->scratch, b->name);
    b->missing = fopen(path, "w");
    return rc ? rc : b->sums && b->missing ? 0 : -errno;
}

static void close_lists(struct bundle *b)
{
    if (b->sums)
        fclose(b->sums);
    if (b->missing)
        fclose(b->missing);
    b->sums = b->missing = NULL;
}

int bundle_pack(struct bundle *b, const char *file, char *err, uint32_t err_len)
{
    size_t n = strlen(file);
    bool zst = n > 8 && !strcmp(file + n - 8, ".tar.zst");
    char part[600];
    struct spawned s;
    snprintf(part, sizeof part, "%.590s.part", file);
    /* A link that somebody put there is not followed. */
    int fd = unlink(part) && errno != ENOENT ? -1 : open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(err, err_len, "%s cannot be made: %s", part, strerror(errno));
        return -1;
    }
    close(fd);
    const char *argv[] = {"tar", "--force-local", zst ? "--zstd" : "--gzip", "--owner=0", "--group=0", "-C", b->scratch, "-cf", part,
                          b->name, NULL};
    close_lists(b);
    spawn_ask(argv, PACK_MS, 1, &s);
    if (s.out)
        s.out[strcspn(s.out, "\n")] = '\0';
    int rc = s.status ? -1 : rename(part, file) ? -1 : 0;
    if (rc)
        snprintf(err, err_len, "%s", s.status > 0 && s.out && *s.out ? s.out : s.status ? "tar is not there, or does not end"
                                                                               : strerror(errno));
    if (rc)
        unlink(part);
    free(s.out);
    return rc;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

void bundle_close(struct bundle *b)
{
    close_lists(b);
    if (*b->scratch)
        nftw(b->scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    redact_wipe(&b->secrets);
    patient_free(&b->patient);
}

/* --- the command ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t over;

static void end(int signal)
{
    (void)signal;
    over = 1;
}

bool bundle_over(void)
{
    return over;
}

static bool right_name(const char *file)
{
    size_t n = strlen(file);
    return (n > 7 && !strcmp(file + n - 7, ".tar.gz")) || (n > 8 && !strcmp(file + n - 8, ".tar.zst"));
}

static int tell(struct bundle *b, const char *file)
{
    struct stat st = {0};
    stat(file, &st);
    if (b->cli->json)
        return cli_json(b->cli, json_pack("{s:s, s:I, s:i, s:i, s:i}", "file", file, "bytes", (json_int_t)st.st_size, "files",
                                          (int)b->files, "missing", (int)b->gaps, "redacted", (int)b->blots));
    printf("%s: %u files, %s bytes; %u could not be had (MISSING in it says why)\n", file, b->files,
           cli_count((double)st.st_size), b->gaps);
    if (b->blots)
        printf("%u places that held a secret were blotted out; look at it before you pass it on\n", b->blots);
    return CLI_OK;
}

/* Said before minutes of collecting, not after. */
static bool may_write_beside(const char *file)
{
    const char *slash = strrchr(file, '/');
    char folder[600];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - file) + 1 : 1, slash ? file : ".");
    return access(folder, W_OK | X_OK) == 0;
}

int cmd_support_bundle(struct cli *cli, int argc, char **argv)
{
    struct bundle *b = calloc(1, sizeof *b);
    char file[600], err[300];
    if (!b || argc > 2 || (argc == 2 && (*argv[1] == '-' || !right_name(argv[1])))) {
        free(b);
        return cli_say(CLI_USAGE, "write `lethe support-bundle`, or a file to write to, FILE.tar.gz or FILE.tar.zst");
    }
    b->cli = cli;
    signal(SIGINT, end); /* so that the folder goes in any case */
    signal(SIGTERM, end);
    int rc = bundle_open(b), status = CLI_REFUSED;
    snprintf(file, sizeof file, "%s%s", argc == 2 ? argv[1] : b->name, argc == 2 ? "" : ".tar.gz");
    patient_find(cli, &b->patient);
    if (rc)
        cli_say(CLI_REFUSED, "%s: %s; TMPDIR names another place; or run it elsewhere: lethe -C ADDR support-bundle",
                *b->scratch ? b->scratch : b->name, strerror(-rc));
    else if (access(file, F_OK) == 0)
        cli_say(CLI_REFUSED, "%s is there already; it is not written over", file);
    else if (!may_write_beside(file))
        cli_say(CLI_REFUSED, "%s cannot be made: %s", file, strerror(errno));
    else {
        bundle_collect(b);
        cli_progress(cli, "packing %u files", b->files);
        snprintf(err, sizeof err, "it was stopped; nothing is written");
        rc = bundle_over() ? -1 : bundle_pack(b, file, err, sizeof err);
        cli_progress_end(cli);
        status = rc ? cli_say(CLI_REFUSED, "%s: %s", file, err) : tell(b, file);
    }
    bundle_close(b);
    free(b);
    return status;
}
