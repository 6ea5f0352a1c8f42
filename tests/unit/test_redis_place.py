"""What the setting `store` may say."""

import pytest

from backstop.adapters.redis_place import Place, parse_place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://127.0.0.1:6379/0", Place(hosts=(("127.0.0.1", 6379),))),
        ("redis://localhost", Place(hosts=(("localhost", 6379),))),
        ("redis://[::1]:6380/2", Place(hosts=(("::1", 6380),), database=2)),
        (
            "redis://:p%40ss%2F@redis.example.com/",
            Place(hosts=(("redis.example.com", 6379),), password="p@ss/"),
        ),
        ("redis://me:word@h/1", Place(hosts=(("h", 6379),), user="me", password="word", database=1)),
        ("unix:///run/redis/redis.sock", Place(path="/run/redis/redis.sock")),
        ("unix:///run/redis/redis.sock?db=3", Place(path="/run/redis/redis.sock", database=3)),
        (
            "unix://me:word@/run/r.sock?db=3",
            Place(path="/run/r.sock", user="me", password="word", database=3),
        ),
        (
            "rediss://h:7000/0?ssl_ca_certs=/etc/ca.pem",
            Place(hosts=(("h", 7000),), speaks_tls=True, tls_files=(("ssl_ca_certs", "/etc/ca.pem"),)),
        ),
        ("redis+sentinel://s/mymaster", Place(hosts=(("s", 26379),), service="mymaster")),
        (
            [
                "redis+sentinel://:w@a:1/m/2?sentinel_password=x",
                "redis+sentinel://:w@b/m/2?sentinel_password=x",
            ],
            Place(
                hosts=(("a", 1), ("b", 26379)), service="m", password="w", database=2, sentinel_password="x"
            ),
        ),
    ],
)
def test_good_urls(url, place):
    assert parse_place(url) == place


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "redis://, rediss://, unix://"),
        ("127.0.0.1:6379", "redis://, rediss://, unix://"),
        ("http://127.0.0.1/", "redis://, rediss://, unix://"),
        ("unix+sentinel://h/m", "redis://, rediss://, unix://"),
        ("redis://", "no HOST:PORT"),
        ("redis://:secret/x@host/0", "no HOST:PORT"),
        ("redis://:secret#x@host/0", "no HOST:PORT"),
        ("redis://:secret?x@host/0", "no HOST:PORT"),
        ("redis://host:70000/0", "no HOST:PORT"),
        ("redis://[::1/0", "no HOST:PORT"),
        ("redis://host/zero", "database is a number"),
        ("redis://host/-1", "database is a number"),
        ("redis://host/0/1", "nothing else"),
        ("redis://host/0?socket_timeout=9", "unknown setting"),
        ("redis://host/0?ssl_ca_certs=/x", "unknown setting"),
        ("rediss://host/0?ssl_cert_reqs=none", "unknown setting"),
        ("unix://run/redis.sock", "absolute path"),
        ("unix:relative", "absolute path"),
        ("redis+sentinel://host", "service's name"),
        ([], "list is empty"),
        (["redis://a", "redis://b"], "only Sentinels"),
        (["redis+sentinel://a/m", "redis+sentinel://b/other"], "host and port only"),
    ],
)
def test_bad_urls_are_told_in_words_without_the_password(url, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_place(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@[::1]:6380/2", "redis://[::1]:6380/2"),
        ("unix://:secret@/run/r.sock?db=3", "unix:///run/r.sock?db=3"),
        ("rediss://:secret@h", "rediss://h:6379/0"),
        (
            ["redis+sentinel://:secret@a/m", "redis+sentinel://:secret@b:1/m"],
            "redis+sentinel://a:26379,b:1/m/0",
        ),
    ],
)
def test_it_is_shown_without_the_password(url, shown):
    place = parse_place(url)
    assert str(place) == shown
    assert "secret" not in repr(place)
