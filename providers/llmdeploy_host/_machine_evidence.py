"""What a machine is asked about itself: swap, core dumps, updates, clock, SSH. Nothing of it is a stack's."""

from __future__ import annotations

from ._evidence import Question, count, flag, word
from ._scripts import render

LISTS_DAYS = 7
"""Days after which signed package lists say nothing about updates any more."""


def machine_questions() -> tuple[Question, ...]:
    """Return what is asked of every machine."""
    return (swap_question(), cores_question(), updates_question(), _clock_question(), ssh_question())


def swap_question(*, swaps: str = "/proc/swaps", sys: str = "/sys", crypttab: str = "/etc/crypttab") -> Question:
    """Return the question where memory goes when it is short. The files are the kernel's; tests give others."""
    return Question(
        command="cat /proc/swaps; dmsetup info -c -o name,uuid",
        script=render("evidence_swap.sh.j2", swaps=swaps, sys=sys, crypttab=crypttab),
        facts={"swap": word("none", "encrypted", "plain")},
    )


def cores_question(*, proc: str = "/proc", etc: str = "/etc") -> Question:
    """Return the question whether a crash writes memory to a disk."""
    return Question(
        command="sysctl kernel.core_pattern fs.suid_dumpable; cat /sys/kernel/kexec_crash_loaded; grep core /proc/1/limits",
        script=render("evidence_cores.sh.j2", proc=proc, etc=etc),
        facts={"core_dumps": flag},
    )


def updates_question(*, lists: str = "/var/lib/apt/lists") -> Question:
    """Return the question how many security updates are not installed. The folder is apt's; tests give another."""
    return Question(
        command="apt-get -s --ignore-hold dist-upgrade | grep -i '^Inst .*security'",
        script=render("evidence_updates.sh.j2", lists=lists, days=LISTS_DAYS),
        facts={"updates_pending": count},
    )


def _clock_question() -> Question:
    return Question(
        command="timedatectl show -p NTPSynchronized --value; chronyc -n tracking",
        script=render("evidence_clock.sh.j2"),
        facts={"clock_synced": flag},
    )


def ssh_question(
    *, etc: str = "/etc", path: str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin", pid: str = "/run/sshd.pid"
) -> Question:
    """Return the question whether SSH takes passwords. sshd writes the file `pid` whenever it reads its settings."""
    return Question(
        command="sshd -T | grep -iE '^(passwordauthentication|kbdinteractiveauthentication) '",
        script=render("evidence_ssh.sh.j2", etc=etc, path=path, pid=pid),
        facts={"ssh_passwords": flag},
    )
