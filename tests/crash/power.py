"""A file system whose power can be cut: ext4 on a loop device, shut down by ioctl.

After the shutdown every write and sync fails and nothing more reaches the device: what was not synced is lost when it is mounted again. Direct I/O does not
wait in the page cache and would survive this: `CachedDisk` lies on a second such file system, which is the one that is shut down, so that what reached its device is in
memory until it is synced, as in a disk's own cache.
Needs root. Devices and mounts are given back whatever happens.
"""

import ctypes
import fcntl
import os
import subprocess
import time

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
BYTES = 8 << 30  # of a sparse file


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


class Disk:
    def __init__(self, directory, size=BYTES):
        self.image, self.mount_point, self.size = directory + "/disk.img", directory + "/mnt", size
        self.device = None
        self.mounted = False

    def __enter__(self):
        os.makedirs(self.mount_point)
        with open(self.image, "wb") as f:
            f.truncate(self.size)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", self.image)
        try:
            self.device = run("losetup", "--find", "--show", self.image)
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.mounted:
            self.unmount()
        if self.device:
            run("losetup", "--detach", self.device)
            self.device = None
        if os.path.exists(self.image):
            os.remove(self.image)

    def mount(self):
        run("mount", "-t", "ext4", self.device, self.mount_point)
        self.mounted = True

    def unmount(self):
        """A process just killed may hold a file for a moment yet."""
        for _ in range(100):
            try:
                run("umount", self.mount_point)
                self.mounted = False
                return
            except OSError as e:
                last = e
                time.sleep(0.05)
        raise last

    def sync(self):
        """All that is there is on the device."""
        run("sync", "--file-system", self.mount_point)

    def cut(self):
        """From here on nothing reaches the device."""
        handle = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, ctypes.c_uint32(NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def come_back(self):
        """Power is there again: what the device has is what there is."""
        self.unmount()
        self.mount()


class CachedDisk(Disk):
    """A disk whose device has a cache of its own that a cut loses: an image on another disk."""

    def __init__(self, directory, size=BYTES):
        self.below = Disk(directory + "/below", size + (size >> 3))
        super().__init__(directory, size)
        self.image = self.below.mount_point + "/disk.img"

    def __enter__(self):
        self.below.__enter__()
        try:
            super().__enter__()
            self.below.sync()
        except BaseException:
            self.below.__exit__()
            raise
        return self

    def __exit__(self, *arguments):
        try:
            super().__exit__(*arguments)
        finally:
            self.below.__exit__(*arguments)

    def cut(self):
        self.below.cut()

    def come_back(self):
        self.unmount()
        run("losetup", "--detach", self.device)
        self.device = None
        self.below.come_back()
        self.device = run("losetup", "--find", "--show", self.image)
        self.mount()
