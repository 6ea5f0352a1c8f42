"""The list of public suffixes as Debian and the Python module bring it, and one of our own."""

import pytest

from backstop.adapters.public_suffixes import DEBIAN, MODULE, PublicSuffixes, _of_module

SOURCES = {"debian": DEBIAN, "module": _of_module()}


@pytest.fixture(params=SOURCES, scope="module")
def suffixes(request):
    path = SOURCES[request.param]
    if path is None or not path.exists():
        pytest.skip(
            f"cannot be here: the list of {request.param} is not installed; Debian 12 has no publicsuffixlist"
        )
    return PublicSuffixes(path)


# From publicsuffix.org's own test vectors, A-labels.
CASES = {
    "com": None,
    "example.com": "example.com",
    "b.example.com": "example.com",
    "a.b.example.com": "example.com",
    "unlisted": None,
    "example.unlisted": "example.unlisted",
    "b.example.unlisted": "example.unlisted",
    "biz": None,
    "domain.biz": "domain.biz",
    "uk.com": None,
    "example.uk.com": "example.uk.com",
    "b.example.uk.com": "example.uk.com",
    "mm": None,
    "c.mm": None,
    "b.c.mm": "b.c.mm",
    "a.b.c.mm": "b.c.mm",
    "jp": None,
    "test.jp": "test.jp",
    "ac.jp": None,
    "test.ac.jp": "test.ac.jp",
    "kyoto.jp": None,
    "ide.kyoto.jp": None,
    "b.ide.kyoto.jp": "b.ide.kyoto.jp",
    "c.kobe.jp": None,
    "b.c.kobe.jp": "b.c.kobe.jp",
    "city.kobe.jp": "city.kobe.jp",
    "www.city.kobe.jp": "city.kobe.jp",
    "ck": None,
    "test.ck": None,
    "b.test.ck": "b.test.ck",
    "www.ck": "www.ck",
    "www.www.ck": "www.ck",
    "k12.ak.us": None,
    "www.test.k12.ak.us": "test.k12.ak.us",
    "xn--85x722f.com.cn": "xn--85x722f.com.cn",
    "xn--55qx5d.cn": None,
    "www.xn--85x722f.xn--55qx5d.cn": "xn--85x722f.xn--55qx5d.cn",
    "xn--fiqs8s": None,
    "www.xn--85x722f.xn--fiqs8s": "xn--85x722f.xn--fiqs8s",
    "github.io": None,  # of the private section
    "www.example.github.io": "example.github.io",
    "": None,
    ".": None,
    ".com": None,
    "a..com": None,
    "example.com.": None,
    "[192.0.2.1]": None,
}


@pytest.mark.parametrize("domain", CASES)
def test_organizational_domains(suffixes, domain):
    assert suffixes.organizational(domain) == CASES[domain]


def test_a_name_of_many_labels_is_no_trouble(suffixes):
    assert suffixes.organizational("a." * 120 + "example.com") == "example.com"


def test_the_list_is_found_without_a_path():
    if not any(path and path.exists() for path in SOURCES.values()):
        pytest.skip("no list is installed")
    suffixes = PublicSuffixes()
    suffixes.load()
    assert suffixes.organizational("www.example.co.uk") == "example.co.uk"


@pytest.mark.parametrize("octets", [None, b"", b"com\nnet\n", b"\xff\xfe\n"])
def test_what_is_not_the_list_is_refused_with_the_cure(tmp_path, octets):
    path = tmp_path / "list.dat"
    if octets is not None:
        path.write_bytes(octets)
    suffixes = PublicSuffixes(path)
    with pytest.raises(LookupError, match=f"package publicsuffix .*{MODULE}"):
        suffixes.load()
    with pytest.raises(LookupError):
        suffixes.organizational("example.com")


def test_it_may_be_read_later(tmp_path):
    path = tmp_path / "list.dat"
    suffixes = PublicSuffixes(path)
    with pytest.raises(LookupError):
        suffixes.load()
    path.write_text("// rules\n" + "".join(f"x{number}\n" for number in range(1000)) + "x1.x2 remark\n")
    assert suffixes.organizational("a.b.x1.x2") == "b.x1.x2"
