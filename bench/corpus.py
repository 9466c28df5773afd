"""Make a deterministic, realistic folder of .eml files.

    python -m bench.corpus OUT_DIR [--count 200] [--seed 1] [--mix business|small]

`business` is a company's inbound mix, by share of messages:
    60 %  multipart/alternative text+html, 4-20 KB, with links
    20 %  html newsletters, 30-80 KB, many links and tracking images
    15 %  with one or two attachments (pdf, docx, xlsx, png, zip), 50 KB - 1 MB
     4 %  a forwarded message/rfc822 inside
     1 %  one large attachment, 5 MB on the wire
`small` is plain text and small text+html only, 2-6 KB.

The same arguments give the same bytes on every machine with the same zlib.  Attachments are real files of
their kind (a PDF with compressed page streams, OOXML zips with their parts, PNGs, zips of csv), harmless.
Names are of example.com/.net/.org only.
"""

import argparse
import base64
import pathlib
import quopri
import random
import sys

from bench.attachments import Attachments
from bench.prose import FAMILY, GIVEN, PARTNERS, WORDS


class Maker(Attachments):
    """Makes whole messages, as text with LF line ends."""

    def encoded_text(self, subtype, text):
        """A text part: base64 or quoted-printable for utf-8, as clients do."""
        if self.r.random() < 0.2:
            body = base64.encodebytes(text.encode()).decode()
            encoding = "base64"
        else:
            body = quopri.encodestring(text.encode()).decode()
            encoding = "quoted-printable"
        return f'Content-Type: text/{subtype}; charset="utf-8"\nContent-Transfer-Encoding: {encoding}\n\n{body}'

    def attachment(self, name, ctype, data):
        """Return the MIME part of a file, in base64."""
        return (
            f'Content-Type: {ctype}; name="{name}"\nContent-Transfer-Encoding: base64\n'
            f'Content-Disposition: attachment; filename="{name}"\n\n{base64.encodebytes(data).decode()}'
        )

    def multipart(self, subtype, parts):
        """Return a multipart entity of these parts."""
        mark = f"=_{self.r.getrandbits(96):024x}"
        inner = "".join(f"--{mark}\n{p}\n" for p in parts)
        return f'Content-Type: multipart/{subtype}; boundary="{mark}"\n\nThis is a MIME message.\n{inner}--{mark}--\n'

    def headers(self):
        """Return the header of the next message, open for its content fields."""
        r = self.r
        self.serial += 1
        given, family, domain = r.choice(GIVEN), r.choice(FAMILY), r.choice(PARTNERS)
        minutes = 7 * self.serial
        date = f"Mon, 06 Jan 2025 {10 + minutes // 60 % 12:02d}:{minutes % 60:02d}:00 +0000"
        received = (
            f"Received: from mail.{domain} (mail.{domain} [192.0.2.{r.randint(1, 254)}])\n"
            f"\tby mx.{domain} (Postfix) with ESMTPS id {r.getrandbits(40):010X}\n"
            f"\tfor <staff@corp.example.com>; {date}\n"
        )
        subject = " ".join(r.choice(WORDS) for _ in range(r.randint(3, 8))).capitalize()
        return (
            f'{received}From: "{given} {family}" <{given.lower()}.{family.lower()}@{domain}>\n'
            f"To: Staff <staff@corp.example.com>\nSubject: {subject}\n"
            f"Date: {date}\nMessage-ID: <{r.getrandbits(96):024x}@mail.{domain}>\nMIME-Version: 1.0\n"
            f"X-Mailer: Example Mailer {r.randint(10, 16)}.0\n"
        )

    def alternative(self, low, high):
        """Return the same letter as text and HTML."""
        size = self.r.randint(low, high)
        return self.multipart(
            "alternative",
            [self.encoded_text("plain", self.plain(size // 3)), self.encoded_text("html", self.html(size // 2))],
        )

    def small(self):
        """Return a short text, or text and HTML."""
        if self.r.random() < 0.5:
            return self.headers() + self.encoded_text("plain", self.plain(self.r.randint(1000, 4500)))
        return self.headers() + self.alternative(2000, 5000)

    def mail(self):
        """Return an ordinary letter."""
        return self.headers() + self.alternative(4000, 18000)

    def newsletter(self):
        """Return a newsletter of 26 to 64 KB of HTML."""
        domain = self.r.choice(PARTNERS)
        return (
            f"List-Unsubscribe: <{self.link()}>\nList-Id: <news.{domain}>\nPrecedence: bulk\n"
            + self.headers()
            + self.multipart(
                "alternative",
                [
                    self.encoded_text("plain", self.plain(2000)),
                    self.encoded_text("html", self.html(self.r.randint(26000, 64000), True)),
                ],
            )
        )

    def with_attachment(self, size=None):
        """Return a letter with one or two files; of `size` octets if given."""
        total = size or int(50_000 * 20 ** self.r.random())  # 50 KB - 1 MB, log-uniform
        kinds = (self.pdf, self.docx, self.xlsx, self.png, self.archive)
        count = 1 if size or self.r.random() < 0.7 else 2
        each = int(total / 1.37 / count)
        parts = [self.alternative(3000, 9000)]
        for _ in range(count):
            parts.append(self.attachment(*self.r.choice(kinds[:1] if size else kinds)(each)))
        return self.headers() + self.multipart("mixed", parts)

    def forwarded(self):
        """Return a letter with another message attached."""
        inner = self.with_attachment() if self.r.random() < 0.25 else self.mail()
        return self.headers() + self.multipart(
            "mixed",
            [
                self.encoded_text("plain", self.plain(600)),
                'Content-Type: message/rfc822\nContent-Disposition: attachment; filename="forwarded.eml"\n\n' + inner,
            ],
        )


SHARES = {
    "business": [("mail", 0.60), ("newsletter", 0.20), ("with_attachment", 0.15), ("forwarded", 0.04), ("large", 0.01)],
    "small": [("small", 1.0)],
}


def make(out, count=200, seed=1, mix="business"):
    """Fill the folder `out` with `count` messages and return the sizes by kind; older .eml files there are removed."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.eml"):
        old.unlink()
    kinds = [kind for kind, share in SHARES[mix] for _ in range(round(share * count))]
    while len(kinds) < count:
        kinds.append(SHARES[mix][0][0])
    random.Random(seed).shuffle(kinds)
    kinds = kinds[:count]
    totals: dict[str, list[int]] = {}
    for number, kind in enumerate(kinds):
        maker = Maker(f"{seed}/{mix}/{number}")
        maker.serial = number
        text = maker.with_attachment(5_000_000) if kind == "large" else getattr(maker, kind)()
        raw = text.replace("\n", "\r\n").encode()
        (out / f"{number:05d}-{kind}.eml").write_bytes(raw)
        totals.setdefault(kind, []).append(len(raw))
    return totals


def main():
    """Make a corpus by command line and say what is in it."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("out")
    p.add_argument("--count", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--mix", choices=sorted(SHARES), default="business")
    args = p.parse_args()
    totals = make(args.out, args.count, args.seed, args.mix)
    every = [s for sizes in totals.values() for s in sizes]
    for kind, sizes in totals.items():
        print(f"{kind:16} {len(sizes):5} messages, mean {sum(sizes) / len(sizes) / 1000:9.1f} KB")
    print(
        f"{'all':16} {len(every):5} messages, mean {sum(every) / len(every) / 1000:9.1f} KB, "
        f"median {sorted(every)[len(every) // 2] / 1000:.1f} KB, {sum(every) / 1e6:.1f} MB in all"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
