"""Where VBA projects lie in a compound file, and how dangerous they are."""

from gateway.inspection.facts import Macro
from gateway.inspection.formats.compound import Compound, Path
from gateway.inspection.formats.vba import Project
from gateway.inspection.look import Look


def project_folders(compound: Compound) -> list[Path]:
    """Return the storages with modules: those that hold `dir` and `_VBA_PROJECT` (MS-OVBA 2.2.2), or one under VBA.

    They lie under Macros in Word files, _VBA_PROJECT_CUR in Excel's, at the root of OOXML's part, and anywhere in
    embedded documents.
    """
    folders = {path[:-1] for path in compound.ending_with("_vba_project")}
    folders |= {path[:-1] for path in compound.ending_with("dir") if len(path) > 1 and path[-2] == "vba"}
    return sorted(folders)


def grade_projects(look: Look, compound: Compound) -> bool:
    """Note the macros of all projects in a compound file; return whether there are any. Raises Damaged."""
    folders = project_folders(compound)
    for folder in folders:
        look.note_macro(Macro.PRESENT)
        streams = {path[-1]: compound.read(path) for path in compound.paths if path[:-1] == folder}
        look.note_macro(Project(look, streams).grade())
    return bool(folders)
