"""The closed table of file types: what each is to a reader of mail, and which extensions of names may honestly have it.

Registered names (IANA media types) stand where there are any, in lower case; else the `application/x-` name in use.
Pure values: filters use them in the worker.
"""

from enum import StrEnum


class Kind(StrEnum):
    """What a file of a type is for."""

    PROGRAM = "program"  # machine or byte code, installers: runs when it is opened
    SCRIPT = "script"  # text that runs when it is opened, and shortcuts that start something
    ARCHIVE = "archive"  # holds files
    DOCUMENT = "document"
    IMAGE = "image"
    MEDIA = "media"  # sound and film
    TEXT = "text"
    DATA = "data"  # all else: fonts, keys, databases


OLE = "application/x-ole-storage"  # every OLE2 file has this type too
ZIP = "application/zip"
PLAIN = "text/plain"
DATA = "application/octet-stream"

_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."

# Each line: media type, then extensions of names that may have it. The first line of an extension is its usual type.
_PROGRAMS = """
application/vnd.microsoft.portable-executable exe dll scr com cpl sys ocx drv efi mui ax pif xll wll
application/x-ms-ne-executable exe dll scr com drv fon cpl
application/x-dos-executable exe com
application/x-elf elf so o bin run ko axf prx out
application/x-mach-binary dylib bundle o macho
application/java-vm class
application/java-archive jar war ear
application/vnd.android.package-archive apk xapk aab
application/vnd.android.dex dex
application/x-msi msi msp mst msm
application/vnd.ms-htmlhelp chm
application/wasm wasm
application/x-python-bytecode pyc pyo
application/x-msix msix appx msixbundle appxbundle
application/vnd.debian.binary-package deb udeb
application/x-rpm rpm
application/x-apple-diskimage dmg
application/x-xar pkg xar mpkg
application/x-xpinstall xpi
application/x-chrome-extension crx
application/x-shockwave-flash swf
"""
_SCRIPTS = """
text/javascript js mjs cjs jse
application/x-jscript-encode jse
text/vbscript vbs vb
application/x-vbscript-encode vbe
application/x-windows-script wsf wsc sct ws wsh
application/hta hta
application/x-powershell ps1 psm1 psd1 ps1xml psc1 pssc cdxml
application/x-bat bat cmd btm nt
application/x-sh sh bash zsh ksh csh command
text/x-python py pyw
application/x-perl pl pm
application/x-ruby rb
application/x-httpd-php php phtml php5 phar
text/x-autoit au3 ahk
application/x-applescript applescript scpt
application/x-ms-shortcut lnk
application/x-shell-command scf
application/x-mswinurl url website
application/x-desktop desktop
application/x-ms-regedit reg
application/x-setupscript inf ins isp
application/x-ms-settings settingcontent-ms
application/x-ms-library library-ms searchconnector-ms search-ms
application/x-ms-application application appref-ms
application/x-rdp rdp
application/x-ms-iqy iqy
application/x-ms-slk slk
"""
_ARCHIVES = """
application/zip zip zipx cbz aar whl nupkg kmz vsix ipa 3mf sketch
application/epub+zip epub
application/gzip gz tgz taz svgz emz wmz gzip adz cpgz
application/x-bzip2 bz2 tbz tbz2 bz
application/x-xz xz txz
application/zstd zst tzst zstd
application/x-lzma lzma tlz
application/x-lzip lz tlz
application/x-lz4 lz4
application/x-compress z taz
application/x-lzop lzo
application/x-lrzip lrz
application/x-grzip grz
application/x-tar tar tgz tbz tbz2 txz taz tlz tzst gem ova
application/x-7z-compressed 7z cb7 001
application/vnd.rar rar cbr rev r00 r01
application/vnd.ms-cab-compressed cab msu
application/x-installshield cab hdr
application/x-iso9660-image iso img udf cdr
application/x-udf-image iso img udf
application/x-vhd vhd
application/x-vhdx vhdx avhdx
application/x-raw-disk-image img ima dd vfd flp bin
application/x-ace ace
application/x-arj arj
application/x-lzh-compressed lzh lha lzs
application/x-cpio cpio
application/x-archive a ar lib
application/x-ms-wim wim swm esd
application/x-stuffit sit sitx
application/x-zoo zoo
application/x-szdd ex_ dl_ sy_ tx_
application/x-uuencode uu uue
application/mac-binhex40 hqx
application/mbox mbox mbx
message/rfc822 eml mht mhtml nws
application/vnd.ms-tnef dat tnef
application/vnd.ms-outlook msg oft
application/x-ms-pst pst ost
"""
_DOCUMENTS = f"""
application/pdf pdf ai fdf pdfa
application/rtf rtf doc dot
{OLE} doc dot xls xlt xla xlw ppt pot pps ppa msg oft msi msp mst msm vsd vst vss pub mpp wps db hwp docx xlsx pptx one
application/msword doc dot wiz rtf
application/vnd.ms-excel xls xlt xla xlm xlw xlb
application/vnd.ms-powerpoint ppt pot pps ppa
application/vnd.visio vsd vst vss
application/vnd.ms-project mpp mpt
application/x-mspublisher pub
application/x-hwp hwp hwt
application/hwp+zip hwpx
{_OOXML}wordprocessingml.document docx
{_OOXML}wordprocessingml.template dotx
{_OOXML}spreadsheetml.sheet xlsx
{_OOXML}spreadsheetml.template xltx
{_OOXML}presentationml.presentation pptx
{_OOXML}presentationml.template potx
{_OOXML}presentationml.slideshow ppsx
{_OOXML}presentationml.slide sldx
application/vnd.ms-word.document.macroenabled.12 docm
application/vnd.ms-word.template.macroenabled.12 dotm
application/vnd.ms-excel.sheet.macroenabled.12 xlsm
application/vnd.ms-excel.template.macroenabled.12 xltm
application/vnd.ms-excel.addin.macroenabled.12 xlam
application/vnd.ms-excel.sheet.binary.macroenabled.12 xlsb
application/vnd.ms-powerpoint.presentation.macroenabled.12 pptm
application/vnd.ms-powerpoint.template.macroenabled.12 potm
application/vnd.ms-powerpoint.slideshow.macroenabled.12 ppsm
application/vnd.ms-powerpoint.addin.macroenabled.12 ppam
application/vnd.ms-powerpoint.slide.macroenabled.12 sldm
application/vnd.ms-visio.drawing vsdx vstx vssx
application/vnd.ms-visio.drawing.macroenabled.12 vsdm vstm vssm
application/vnd.ms-xpsdocument xps oxps
application/x-ms-office-encrypted docx xlsx pptx docm xlsm pptm xlsb dotx xltx potx
{_ODF}text odt
{_ODF}text-template ott
{_ODF}text-master odm
{_ODF}spreadsheet ods
{_ODF}spreadsheet-template ots
{_ODF}presentation odp
{_ODF}presentation-template otp
{_ODF}graphics odg otg
{_ODF}formula odf
{_ODF}base odb
application/onenote one onepkg onetoc2
application/postscript ps ai
image/x-eps eps epsf
text/html html htm shtml xht hta
application/xhtml+xml xhtml xht html htm
image/svg+xml svg
application/xml xml xsl xslt xsd rss atom kml gpx config plist vcxproj resx xdp xaml doc xls
application/vnd.ms-word-xml xml doc
application/vnd.ms-excel-xml xml xls
text/calendar ics ifb vcs
text/vcard vcf
image/vnd.djvu djvu djv
application/vnd.wordperfect wpd
"""
_IMAGES = """
image/png png apng
image/jpeg jpg jpeg jpe jfif
image/gif gif
image/bmp bmp dib
image/tiff tif tiff dng nef cr2
image/webp webp
image/vnd.microsoft.icon ico cur
image/heic heic heif heics hif
image/avif avif
image/jp2 jp2 jpx j2k jpf
image/jxl jxl
image/vnd.adobe.photoshop psd psb
image/wmf wmf
image/emf emf
image/x-portable-anymap pnm pgm pbm ppm
image/x-xcf xcf
image/vnd.dwg dwg
application/dicom dcm
"""
_MEDIA = """
audio/mpeg mp3 mp2 mpga
audio/aac aac
audio/wav wav
audio/flac flac
audio/midi mid midi
audio/amr amr
audio/ogg ogg oga opus ogv
audio/aiff aif aiff aifc
audio/mp4 m4a m4b
video/mp4 mp4 m4v m4a f4v
video/quicktime mov qt
video/3gpp 3gp 3g2
video/x-msvideo avi
video/x-matroska mkv mka webm
video/webm webm
video/x-flv flv
video/mpeg mpg mpeg vob
video/mp2t ts mts m2ts
video/x-ms-asf wmv wma asf
"""
_TEXTS = """
text/plain txt log md csv tsv ini cfg conf c h cpp hpp cs java go rs sql css yaml yml toml diff patch tex srt text nfo
application/json json geojson ipynb map
text/csv csv tsv
application/pgp-encrypted asc pgp gpg
application/pgp-keys asc key pgp gpg
application/pgp-signature asc sig
application/x-pem-file pem crt cer key csr p7b p7c p8
"""
_DATA = """
application/octet-stream bin dat
application/pkcs7-mime p7m p7c p7b p7
application/pkcs7-signature p7s
application/pkix-cert cer crt der
application/pkcs12 p12 pfx
font/ttf ttf ttc dfont
font/otf otf
font/woff woff
font/woff2 woff2
application/vnd.ms-fontobject eot
application/x-bittorrent torrent
application/vnd.sqlite3 sqlite sqlite3 db
application/vnd.ms-access mdb accdb mde accde
application/vnd.tcpdump.pcap pcap pcapng cap
application/vnd.iccprofile icc icm
application/x-plist plist
application/x-thumbs-db db
"""

_KINDS = {
    Kind.PROGRAM: _PROGRAMS,
    Kind.SCRIPT: _SCRIPTS,
    Kind.ARCHIVE: _ARCHIVES,
    Kind.DOCUMENT: _DOCUMENTS,
    Kind.IMAGE: _IMAGES,
    Kind.MEDIA: _MEDIA,
    Kind.TEXT: _TEXTS,
    Kind.DATA: _DATA,
}

TYPES: dict[str, Kind] = {
    line.split()[0]: kind for kind, lines in _KINDS.items() for line in lines.splitlines() if line
}

# Text whose kind its name decides: the octets could be a letter as well as a program, and systems go by the name.
NAMED_TEXT = frozenset(
    {
        *(line.split()[0] for line in _SCRIPTS.splitlines() if line),
        "text/html",
        "application/xhtml+xml",
        "image/svg+xml",
        "application/xml",
        "text/calendar",
        "text/vcard",
        "text/csv",
        "application/json",
        "message/rfc822",
        "application/mbox",
    }
) - {"application/x-ms-shortcut", "application/x-ms-slk"}


def _by_extension() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for lines in _KINDS.values():
        for line in lines.splitlines():
            kind, *extensions = line.split() or [""]
            for extension in extensions:
                found[extension] = (*found.get(extension, ()), kind)
    return found


# By extension in lower case, without the dot.
EXTENSIONS: dict[str, tuple[str, ...]] = _by_extension()
