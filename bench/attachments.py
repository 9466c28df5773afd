"""Attachments for the corpus: real files of their kind, harmless, of about the size asked for.

Each maker returns (file name, content type, bytes). The same seed gives the same bytes with the same zlib.
"""

import binascii
import io
import struct
import zipfile
import zlib

from bench.prose import WORDS, Writer

XML = '<?xml version="1.0"?>'
OPEN_DOCUMENT = "application/vnd.openxmlformats-officedocument"
SCHEMAS = "http://schemas.openxmlformats.org"
TYPES = (
    f'{XML}<Types xmlns="{SCHEMAS}/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
)
DOCX_TYPES = (
    f'{TYPES}<Default Extension="png" ContentType="image/png"/>'
    f'<Override PartName="/word/document.xml" ContentType="{OPEN_DOCUMENT}.wordprocessingml.document.main+xml"/>'
    "</Types>"
)
XLSX_TYPES = (
    f'{TYPES}<Override PartName="/xl/workbook.xml" ContentType="{OPEN_DOCUMENT}.spreadsheetml.sheet.main+xml"/></Types>'
)
RELATIONS = (
    f'{XML}<Relationships xmlns="{SCHEMAS}/package/2006/relationships">'
    f'<Relationship Id="rId1" Type="{SCHEMAS}/officeDocument/2006/relationships/officeDocument" '
    'Target="%s"/></Relationships>'
)
DOCX_OPEN = f'<w:document xmlns:w="{SCHEMAS}/wordprocessingml/2006/main"><w:body>'
SHEET = f'xmlns="{SCHEMAS}/spreadsheetml/2006/main"'


class Attachments(Writer):
    """Makes (file name, content type, bytes) of a kind."""

    def pdf(self, size):
        """Return a PDF whose pages have compressed streams of text and random picture bytes."""
        r, objects, pages = self.r, [], []
        have = 0
        while have < size:
            lines = (self.sentence().encode("ascii", "replace").decode() for _ in range(50))
            text = "\n".join(f"BT /F1 10 Tf 50 {780 - 14 * i} Td ({line}) Tj ET" for i, line in enumerate(lines))
            picture = r.randbytes(min(24000, max(0, size - have)))
            stream = zlib.compress(text.encode() + b"\n% " + binascii.hexlify(picture), 6)
            pages.append(stream)
            have += len(stream)
        n = len(pages)
        objects.append(b"<< /Type /Catalog /Pages 2 0 R >>")
        objects.append(
            b"<< /Type /Pages /Count %d /Kids [%s] >>" % (n, b" ".join(b"%d 0 R" % (4 + 2 * i) for i in range(n)))
        )
        objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
        for i, stream in enumerate(pages):
            objects.append(
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
                b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * i)
            )
            objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream))
        out, offsets = io.BytesIO(), []
        out.write(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
        for number, body in enumerate(objects, 1):
            offsets.append(out.tell())
            out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        start = out.tell()
        out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
        out.write(b"".join(b"%010d 00000 n \n" % o for o in offsets))
        out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))
        return "report.pdf", "application/pdf", out.getvalue()

    def zipped(self, parts):
        """Return a deflated zip of (name, contents), with a fixed date."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
            for name, data in parts:
                z.writestr(zipfile.ZipInfo(name, (2025, 1, 6, 10, 0, 0)), data, zipfile.ZIP_DEFLATED)
        return out.getvalue()

    def png(self, size):
        """Return a PNG, filled up to `size` by a private chunk."""
        width = 640
        height = max(8, size // (width * 2))
        noise = [self.r.randbytes(width * 3) for _ in range(16)]
        blank = bytes(width * 3)
        rows = b"".join(
            b"\0" + (noise[y % 16] if y % 3 else blank)[y % 16 :] + noise[0][: y % 16] for y in range(height)
        )
        extra = self.r.randbytes(max(0, size - len(zlib.compress(rows, 6))))

        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        data = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows, 6))
            + (chunk(b"prVt", extra) if extra else b"")
            + chunk(b"IEND", b"")
        )
        return "picture.png", "image/png", data

    def docx(self, size):
        """Return an OOXML document with 200 paragraphs and a picture that fills it up to `size`."""
        body = "".join(f"<w:p><w:r><w:t>{self.sentence()}</w:t></w:r></w:p>" for _ in range(200))
        parts = [
            ("[Content_Types].xml", DOCX_TYPES),
            ("_rels/.rels", RELATIONS % "word/document.xml"),
            ("word/document.xml", f'{XML[:-2]} encoding="UTF-8"?>{DOCX_OPEN}{body}</w:body></w:document>'),
        ]
        rest = size - len(self.zipped(parts))
        if rest > 2000:
            parts.append(("word/media/image1.png", self.png(rest)[2]))
        return "offer.docx", f"{OPEN_DOCUMENT}.wordprocessingml.document", self.zipped(parts)

    def xlsx(self, size):
        """Return an OOXML workbook of numbers."""
        rows, have, number = [], 0, 0
        while have < size:
            number += 1
            cells = "".join(f'<c r="{c}{number}"><v>{self.r.getrandbits(48)}</v></c>' for c in "ABCDEFGH")
            rows.append(f'<row r="{number}">{cells}</row>')
            have += 68  # about what a row comes to once compressed
        parts = [
            ("[Content_Types].xml", XLSX_TYPES),
            ("_rels/.rels", RELATIONS % "xl/workbook.xml"),
            ("xl/workbook.xml", f'{XML}<workbook {SHEET}><sheets><sheet name="Data" sheetId="1"/></sheets></workbook>'),
            ("xl/worksheets/sheet1.xml", f"{XML}<worksheet {SHEET}><sheetData>{''.join(rows)}</sheetData></worksheet>"),
        ]
        return "figures.xlsx", f"{OPEN_DOCUMENT}.spreadsheetml.sheet", self.zipped(parts)

    def archive(self, size):
        """Return a zip with one CSV file."""
        lines, have = [], 0
        while have < size:
            r = self.r
            lines.append(f"{r.getrandbits(40)};{r.choice(WORDS)};{r.getrandbits(64):x};{r.random():.12f}")
            have += 26
        return "export.zip", "application/zip", self.zipped([("export.csv", "\n".join(lines))])
