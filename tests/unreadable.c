/* A disk with one sector that it does not give: loaded before the C library (LD_PRELOAD), it answers EIO to reads of bytes UNREADABLE_FROM to
   UNREADABLE_TO of the file with inode UNREADABLE_INODE, and lets all others through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

static unsigned long long said(const char *name) {
    const char *value = getenv(name);
    return value ? strtoull(value, NULL, 10) : 0;
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    static ssize_t (*next)(int, void *, size_t, off64_t);
    static unsigned long long inode, from, to;
    struct stat file;
    if (!next) {
        inode = said("UNREADABLE_INODE");
        from = said("UNREADABLE_FROM");
        to = said("UNREADABLE_TO");
        next = dlsym(RTLD_NEXT, "pread64");
    }
    if ((unsigned long long)at < to && (unsigned long long)at + count > from && !fstat(fd, &file) && file.st_ino == inode) {
        errno = EIO;
        return -1;
    }
    return next(fd, bytes, count, at);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    return pread64(fd, bytes, count, at);
}
