"""The product's own parsers in a real box: what they need from files was loaded before the child lost them."""

import io
import subprocess
import sys
import tarfile

from gateway.inspection.box.alone import zygote_alone
from gateway.inspection.box.client import Box
from gateway.inspection.box.crashes import CrashTable
from gateway.inspection.facts import Part
from gateway.inspection.task import Errand, Task


async def opened(raw: bytes, name: str) -> tuple[Part, ...]:
    with zygote_alone() as channel:
        box = Box(channel, CrashTable())
        try:
            task = Task("1", 0, len(raw), ("8bit",), names=(name,), is_attachment=True)
            return (await box.open(raw, Errand((task,)))).parts
        finally:
            box.close()


def test_libmagic_has_read_its_database_before_children_are_forked() -> None:
    # In a process of its own: this one may have read it for another test.
    script = (
        "from gateway.inspection import second_opinion; from gateway.inspection.box import zygote; zygote.prepare();"
        "print(second_opinion._libmagic.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


async def test_names_that_are_not_ascii_come_out_of_archives() -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:xz") as archive:
        archive.addfile(tarfile.TarInfo("gr\u00fc\u00dfe.txt"), io.BytesIO())
    parts = await opened(held.getvalue(), "a.tar.xz")
    assert "gr\u00fc\u00dfe.txt" in {name for part in parts for name in part.names}
