"""Listings as web servers write them."""

import pytest

from audioml.datasets._source.http import HttpSource, find_names

URL = "https://host/my%20birds/"


@pytest.mark.parametrize(
    "page",
    [
        # Apache
        '<a href="?C=N;O=D">Name</a> <a href="/">Parent Directory</a> <a href="a/">a/</a>'
        '<a href="R&amp;B%20%231.wav">R&amp;B #1.wav</a> <a href="it\'s.wav">it\'s.wav</a>',
        # nginx
        '<pre><a href="../">../</a>\n<a href="a/">a/</a>\n<a href="R&B%20%231.wav">R..</a> <a href="it\'s.wav">..</a>',
        # Caddy
        '<a href="..">up</a><a href="./a/"><svg/></a><a href="./R&amp;B%20%231.wav"></a><a href="./it&#39;s.wav"></a>',
        # whole URLs, and links elsewhere
        '<a href="https://host/my%20birds/a/">a</a><a href="/my%20birds/R&amp;B%20%231.wav">R</a><a href="it%27s.wav">i'
        '</a><a href="https://elsewhere/my%20birds/b.wav">b</a><a href="a/deep.wav">d</a><a name="top">t</a>',
    ],
    ids=["apache", "nginx", "caddy", "absolute"],
)
def test_names_of_a_page(page):
    assert find_names(page, URL) == ["a/", "R&B #1.wav", "it's.wav"]


def test_urls_of_paths():
    source = HttpSource(URL)
    assert source.place("a/R&B #1.wav") == "https://host/my%20birds/a/R%26B%20%231.wav"
    assert HttpSource("https://host/t.CSV?version=2").suffix == ".csv"
    assert HttpSource("https://host/meta/t.csv?version=2").parent().join("a.wav").address == "https://host/meta/a.wav"
