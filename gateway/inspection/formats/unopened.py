"""Containers that there is no reader for: said of each, so that nobody takes the silence for "nothing within"."""

from gateway.inspection.look import Look

OPENS = (
    "application/x-ace",
    "application/x-arj",
    "application/x-apple-diskimage",
    "application/x-grzip",
    "application/x-installshield",
    "application/x-lrzip",
    "application/x-lzop",
    "application/x-ms-pst",
    "application/x-ms-wim",
    "application/x-raw-disk-image",
    "application/x-stuffit",
    "application/x-szdd",
    "application/vnd.ms-htmlhelp",
    "application/x-udf-image",
    "application/x-vhd",
    "application/x-vhdx",
    "application/x-zoo",
    "application/mac-binhex40",
    "application/pgp-encrypted",
)


def open_file(look: Look) -> None:
    # Most UDF images hold the same files by ISO 9660 as well, and those are opened.
    if "application/x-iso9660-image" not in look.found_types:
        look.note_problem("unsupported")
