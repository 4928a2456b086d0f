/* What a story puts between the server and its machine: how long a file takes to be synced and whether it can be, what the
 * time of day is, and who answers questions for names. Loaded before the C library (LD_PRELOAD) and driven through a page
 * of memory that the story writes; `machine.rs` compiles it and knows the page. In C, since what it replaces is C, whose
 * compiler building Postrider needs anyway. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NAME_SERVERS "/etc/resolv.conf"
#define DNS_PORT 53

/* In the order of `Word` in machine.rs. */
struct page {
    _Atomic long sync_delay_ms, sync_errno, syncs, clock_step_s, name_server_port;
};

/* Until the story's own is there. */
static struct page healthy;
static struct page *page = &healthy;

#define REAL(name) ({ static typeof(name) *real; real ? real : (real = (typeof(name) *)dlsym(RTLD_NEXT, #name)); })

__attribute__((constructor)) static void plug_in(void)
{
    int file = open(getenv("STORY_MACHINE"), O_RDWR);
    void *shared = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED)
        abort();
    page = shared;
    close(file);
}

/* Looks again and again, so that a disk that recovers lets go of those that wait for it. */
static void wait_for_the_disk(void)
{
    const struct timespec tick = { .tv_nsec = 5000000 };
    for (long waited = 0; waited < page->sync_delay_ms; waited += 5)
        nanosleep(&tick, NULL);
}

static int synced(int (*real)(int), int file)
{
    page->syncs++;
    wait_for_the_disk();
    if (page->sync_errno == 0)
        return real(file);
    errno = page->sync_errno;
    return -1;
}

int fsync(int file)
{
    return synced(REAL(fsync), file);
}

int fdatasync(int file)
{
    return synced(REAL(fdatasync), file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = REAL(clock_gettime)(clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += page->clock_step_s;
    return failed;
}

/* The resolver reads where its name servers are, ... */
int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    const char *other = getenv("STORY_NAME_SERVERS");
    return REAL(open64)(other && strcmp(path, NAME_SERVERS) == 0 ? other : path, flags, mode);
}

/* ... asks them at the port that such a file cannot change, */
ssize_t sendto(int socket, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
    struct sockaddr_in changed;
    if (to && to->sa_family == AF_INET && ((const struct sockaddr_in *)to)->sin_port == htons(DNS_PORT)) {
        changed = *(const struct sockaddr_in *)to;
        changed.sin_port = htons(page->name_server_port);
        to = (struct sockaddr *)&changed;
    }
    return REAL(sendto)(socket, bytes, length, flags, to, size);
}

/* ... and believes answers from there alone. */
ssize_t recvfrom(int socket, void *bytes, size_t length, int flags, struct sockaddr *from, socklen_t *size)
{
    ssize_t received = REAL(recvfrom)(socket, bytes, length, flags, from, size);
    struct sockaddr_in *source = (struct sockaddr_in *)from;
    if (received >= 0 && source && source->sin_family == AF_INET && page->name_server_port != 0 &&
        source->sin_port == htons(page->name_server_port))
        source->sin_port = htons(DNS_PORT);
    return received;
}
