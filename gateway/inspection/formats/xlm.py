"""Excel 4.0 macros: whether they run by themselves and reach out of the workbook. They are not interpreted."""

import re

# Function numbers of what starts programs, calls libraries, or writes files (MS-XLS 2.5.198.17, Ftab): EXEC 0x6E,
# REGISTER 0x95, CALL 0x96, REGISTER.ID 0x10B, FOPEN 0x84, FWRITELN 0x89, FWRITE 0x8A.
# In a formula they stand behind PtgFuncVar and the number of arguments (MS-XLS 2.5.198.63).
CALLED = re.compile(rb"[\x22\x42\x62][\x00-\x7f](?:[\x6e\x95\x96\x84\x89\x8a]\x00|\x0b\x01)")
WRITTEN = re.compile(rb"\b(?:EXEC|CALL|REGISTER(?:\.ID)?|FOPEN|FWRITE(?:LN)?|URLDOWNLOADTOFILEA?)\s*\(", re.IGNORECASE)
AUTO_NAMES = re.compile(rb"auto_(?:open|close|activate|deactivate)", re.IGNORECASE)


def names_auto_run(workbook: bytes) -> bool:
    """Whether a workbook part defines a name that Excel runs by itself (MS-XLS 2.5.114: Auto_Open and its kin)."""
    return AUTO_NAMES.search(workbook.replace(b"\0", b"")) is not None


def reaches_out(sheet: bytes) -> bool:
    """Whether a macro sheet, as XML or in binary records, calls what starts programs or writes files."""
    return CALLED.search(sheet) is not None or WRITTEN.search(sheet) is not None
