"""Prose for the corpus: sentences, plain text and HTML of business mail, all drawn from one seeded generator.

Names are of example.com/.net/.org only. Makes text, no MIME: that is `corpus.py`.
"""

import random
import textwrap

WORD_LIST = """account action address agreement amount analysis annual answer approval area article attached august
balance bank batch before benefit between board branch budget building business calendar call capacity case
change check client colleague comment committee company complete concern confirm contact contract control copy
cost country course customer daily data date deadline decision delay delivery department design detail develop
discount discuss document draft during early effort email employee energy engine enquiry equipment estimate event
example exchange expect expense export extra factor factory february feedback figure file final finance finish
follow forecast format forward freight friday function further general goods group growth guide health help high
hotel hour however impact import improve include income increase information inspection install insurance interest
internal invoice issue item january july june kind know labour large launch lead legal letter level line list
local logistics machine maintenance management manager march market material matter measure meeting member message
method minute monday month morning move network next note november number october offer office only open operation
option order organise original output overview own package paper part partner payment people percent performance
period person phone place plan plant please point policy position possible power prepare present price print
process product production profit programme progress project proposal provide public purchase quality quarter
question quote range rate reach receive recent record reduce region regular release remain reminder report request
require research resource response result return review revise risk room sale sample schedule season second section
security send september service session share sheet shipment short site solution source space staff standard start
statement status stock storage supplier supply support survey system table target task team technical term test
thank thursday time today together topic total trade training transfer transport travel tuesday under unit update
urgent usual value vendor version visit volume warehouse wednesday week while within without work year"""
WORDS = WORD_LIST.split()
GIVEN_NAMES = (
    "Anna Ben Carla David Elena Farid Grace Henrik Ines Jonas Karin Luca Maria Nils Olga Paul Rosa Stefan Tara Uwe"
)
GIVEN = GIVEN_NAMES.split()
FAMILY_NAMES = (
    "Adler Becker Costa Dupont Eriksen Fischer Garcia Huber Ivanov Jensen Keller Lopez Meyer Novak Olsen Petit"
)
FAMILY = FAMILY_NAMES.split()
COMPANIES = (
    "northwind contoso fabrikam tailspin litware adventure proseware alpine lakeshore harbour summit orchard "
    "granite meadow cobalt juniper"
)
PARTNERS = [f"{w}.example.{t}" for w, t in zip(COMPANIES.split(), ["com", "net", "org"] * 6, strict=False)]


class Writer:
    """Draws text of about a wanted size. `serial` counts the messages made, so that dates go on."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.serial = 0

    def sentence(self):
        """Return six to eighteen words with a full stop, now and then a number or an accented word."""
        r = self.r
        words = [r.choice(WORDS) for _ in range(r.randint(6, 18))]
        if r.random() < 0.12:
            words.insert(r.randrange(len(words)), f"{r.randint(1, 99999)}")
        if r.random() < 0.06:
            words.insert(r.randrange(len(words)), r.choice(["Zürich", "café", "Größe", "señor", "naïve", "€ 250"]))
        return " ".join(words).capitalize() + r.choice("...?!")

    def paragraph(self, size):
        """Return sentences of at least `size` characters in all."""
        out, have = [], 0
        while have < size:
            s = self.sentence()
            out.append(s)
            have += len(s) + 1
        return " ".join(out)

    def link(self):
        """Return an https URL under a partner's domain."""
        r = self.r
        path = "/".join(r.choice(WORDS) for _ in range(r.randint(1, 4)))
        query = "".join(f"{'&' if i else '?'}{r.choice(WORDS)}={r.getrandbits(64):x}" for i in range(r.randint(0, 3)))
        return f"https://{r.choice(['www', 'portal', 'news', 'docs'])}.{r.choice(PARTNERS)}/{path}{query}"

    def plain(self, size):
        """Return a plain letter of about `size` characters, LF line ends, at most 76 columns."""
        out, have = ["Dear colleagues,", ""], 0
        while have < size:
            p = self.paragraph(self.r.randint(200, 600))
            if self.r.random() < 0.4:
                p += " " + self.link()
            out += [*textwrap.wrap(p, 76, break_long_words=False, break_on_hyphens=False), ""]
            have += len(p) + 4
        out += ["Best regards,", self.r.choice(GIVEN), "-- ", f"Phone +00 555 01{self.r.randint(0, 99):02d}"]
        return "\n".join(out) + "\n"

    def html(self, size, newsletter=False):
        """Return an HTML letter, or a newsletter of tables with pictures and tracking links, of at least `size`."""
        out = [
            '<!DOCTYPE html><html><head><meta http-equiv="Content-Type" content="text/html; charset=utf-8">'
            "<style>body{font-family:Arial,sans-serif;font-size:14px;color:#222}td{padding:8px}a{color:#06c}"
            ".btn{background:#06c;color:#fff;padding:10px}</style></head><body>"
        ]
        have = len(out[0])
        while have < size:
            block = self.newsletter_block() if newsletter else self.letter_block()
            out.append(block)
            have += len(block) + 1
        if newsletter:
            out.append(f'<img src="{self.link()}" width="1" height="1"><p><a href="{self.link()}">unsubscribe</a></p>')
        out.append("</body></html>\n")
        return "\n".join(out)

    def newsletter_block(self):
        """Return one table of a newsletter: a picture, a heading, a text, a button."""
        r = self.r
        return (
            '<table width="600" cellpadding="0" cellspacing="0" border="0" align="center"><tr>'
            f'<td style="background:#f4f4f4;border:1px solid #ddd"><a href="{self.link()}">'
            f'<img src="{self.link()}.png" width="280" height="140" alt="{r.choice(WORDS)}"></a></td>'
            f'<td style="vertical-align:top;line-height:1.4"><h2>{self.sentence()}</h2>'
            f"<p>{self.paragraph(r.randint(150, 400))}</p>"
            f'<p><a class="btn" href="{self.link()}">{r.choice(WORDS).capitalize()} &raquo;</a></p></td></tr></table>'
        )

    def letter_block(self):
        """Return one paragraph of a letter, every second time with a link."""
        r = self.r
        text = self.paragraph(r.randint(200, 600))
        block = f'<p class="MsoNormal"><span style="color:#1F497D">{text}</span></p>'
        if r.random() < 0.5:
            block += f'<p>See <a href="{self.link()}">{r.choice(WORDS)} {r.choice(WORDS)}</a>.</p>'
        return block
