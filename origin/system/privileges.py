"""Drops root privileges for good: a server started by root becomes another user once it listens."""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from pathlib import Path

from origin.config.errors import CommandError
from packager.process import launcher

ROOT = 0
PR_SET_NO_NEW_PRIVS = 38


class UserError(CommandError):
    """The configured user can't be used; the text is one line that says what to do."""


def is_root() -> bool:
    """Return whether this process runs as root."""
    return os.geteuid() == ROOT


def become(name: str) -> None:
    """Become another user, with its groups; does nothing if this process already is that user.

    Raises:
        UserError: the user doesn't exist or is root, this process isn't root, or the user can't read the
            program.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise UserError(f"server.user = {name!r}: there is no such user; make it, or name another") from None
    if user.pw_uid == ROOT:
        raise UserError(f"server.user = {name!r}: that is root; name a user that may do less")
    if not is_root():
        if os.getresuid() == (user.pw_uid,) * 3:
            return
        advice = "start it as root, or without server.user"
        raise UserError(f"server.user = {name!r}: only root can become another user; {advice}")
    # The groups first: who isn't root may not change them.
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not _is_only(user):
        raise UserError(f"server.user = {name!r}: the system left this process some of root's privileges")
    os.environ |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    for path, mode in ((sys.executable, os.X_OK), (launcher.__file__, os.R_OK)):
        if not os.access(path, mode):
            advice = "install Headwater and its Python where that user may read them"
            raise UserError(f"server.user = {name!r} may not use {path}; {advice}")


def _is_only(user: pwd.struct_passwd) -> bool:
    """Return whether all of this process's credentials are the user's, and root can't be regained."""
    try:
        os.setuid(ROOT)
    except PermissionError:
        status = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
        capable = any(int(status[name], 16) for name in ("CapPrm", "CapEff", "CapAmb"))
        expected = sorted(set(os.getgrouplist(user.pw_name, user.pw_gid)))
        return (
            not capable
            and os.getresuid() == (user.pw_uid,) * 3
            and os.getresgid() == (user.pw_gid,) * 3
            and sorted(set(os.getgroups())) == expected
        )
    return False
