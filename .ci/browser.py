"""Uses the console in headless Chromium as people do, and looks for what would keep them from it.

    browser.py BINARY [FOLDER] [--pictures DIR]     FOLDER: a data folder of the demo; without one, the demo is built
"""

import argparse
import json
import subprocess
import tempfile

import demo
import pictures
import searching
from chrome import Keys, Page
from demo import Demo, ask

QUERIES = ["night nurse", "plumber", "software developer", "look after sick animals", "bus driver", "teach children to read", "accountant", "welder"]


def a_collection_is_rebuilt_and_rolled_back(page):
    page.go("#/collections")
    page.click(".cards a", "members")
    page.one("h1", "members")
    n_before = page.until(lambda: len(page.all("#main tbody tr .status")), "there are no generations")
    assert "experience.title" in page.text("#main")
    page.click("#rebuild")
    page.one(".tasks .status", "done")
    page.until(lambda: len(page.all("#main tbody tr .status")) == 2, f"{n_before} generations, and no new one")
    page.click("tbody button", "Roll back")
    page.click("dialog button", "Leave")
    page.until(lambda: not page.all("dialog"), "the dialog stays")
    current = page.text("tbody tr:has(.current) code")
    page.click("tbody button", "Roll back")
    page.click("dialog button", "Activate")
    page.until(lambda: page.text("tbody tr:has(.current) code") != current, "the old generation does not serve")
    page.click("#measure")
    assert "recall@10" in page.one("section", "recall@10").text and "%" in page.text("table:has(.share)")


def an_evaluation_compares(page):
    page.go("#/evaluations")
    queries, qrels = [], []
    for i, text in enumerate(QUERIES):
        hits = ask("/v1/collections/jobs/search", {"query": {"text": text}, "limit": 10})["hits"]
        queries.append(f'{{"id": "q{i}", "text": "{text}"}}')
        qrels += [f"q{i} 0 {hit['id']} {(3, 0, 2, 1)[at % 4]}" for at, hit in enumerate(hits)]
    page.one("#evaluated option")
    page.write("#queries", "no json, no tab")
    page.click("#evaluate")
    assert "Line 1 of the queries" in page.text("form [role=alert]")
    page.write("#queries", "\n".join(queries))
    page.write("#qrels", "\n".join(qrels))
    page.click("#evaluate")
    page.one("h2", "Differences to as it is")
    assert "nDCG@10" in page.text("#report") and page.run("return document.querySelector('.picture').naturalWidth") > 0
    page.click("#sort-1")
    column = lambda: [float(e.text) for e in page.all("table:has(#sort-1) tbody td:nth-child(2)")]
    assert len(column()) == len(QUERIES) and column() == sorted(column())
    page.click("#sort-1")
    assert column() == sorted(column(), reverse=True)
    return page.driver.current_url.split("/")[-1]


def the_api_is_described(page):
    page.go("#/api")
    described = ask("/openapi.json")["paths"]
    page.until(lambda: len(page.all(".operation")) == sum(len(item) for item in described.values()), "operations are missing")
    page.write("#operations", "becomes of a document in a search")
    page.until(lambda: len(page.all(".operation")) == 1, "the filter does not narrow")
    page.click(".operation summary")
    told = page.text(".operation")
    assert "/v1/collections/{collection}/explain" in told and "group_by" in told and "needed" in told, told


def a_key_is_asked_for(page, key):
    """Of a server with keys, with one that may read."""
    page.go("")
    assert "needs an API key" in page.text(".results [role=alert]")
    page.write(".results [type=password]", "wrong")
    page.keys(Keys.ENTER)
    page.until(lambda: "no such API key" in page.text(".results [role=alert]"), "a wrong key is not refused")
    page.write(".results [type=password]", key)
    page.keys(Keys.ENTER)
    page.one("#query")
    searching.search(page)
    page.click("nav a", "Collections")
    page.click(".cards a", "members")
    page.click("#rebuild")
    assert "may not do that" in page.text("section [role=alert]")


def everybody_can_use_it(page, evaluation):
    routes = ["", f"#/search?in=jobs&q={searching.NURSE.replace(' ', '+')}&f.remote=true", "#/search?in=members&for=jobs&id=nobody", "#/collections"]
    for route in [*routes, "#/collections/jobs", "#/evaluations", f"#/evaluations/{evaluation}", "#/api"]:
        for width, dark in ((1280, False), (1280, True), (360, False), (360, True)):
            page.look(width, dark=dark)
            page.go(route)
            page.until(lambda: page.all(".found, .welcome, .notice, .cards, .facts, .evaluate, #report h2, .operation"), f"{route} stays empty")
            page.until(lambda: not page.all(".results[aria-busy]"), "it does not end")
            folded = ".hits > li:first-child .quiet, .all-filters:not([open]) > summary, .options > summary"
            page.run("document.querySelectorAll(arguments[0]).forEach((button) => button.click())", folded)
            assert page.overflow() <= 0, f"{route} at {width} px is {page.overflow()} px too wide"
            hindrances = page.hindrances()
            assert not hindrances, (route, width, dark, hindrances)
    page.look()
    page.errors()


PARTS = [
    searching.a_search_shows_hits,
    searching.a_filter_narrows,
    searching.why_it_is_not_here,
    searching.a_score_is_explained,
    searching.matches_of_a_document,
    searching.a_failed_request_says_why,
    searching.the_keyboard_is_enough,
    searching.hostile_documents_are_text,
    a_collection_is_rebuilt_and_rolled_back,
    the_api_is_described,
    an_evaluation_compares,
]


def the_feed_is_shown(page):
    page.go("#/collections/jobs")
    page.one("h2", "Feed")
    page.until(lambda: "Connection refused" in page.text("#main"), "the page does not say why the feed waits")


def check(page, pictures_dir=None):
    for part in PARTS:
        print(part.__name__.replace("_", " "), flush=True)
        came_of_it = part(page)
        assert (errors := page.errors()) == [], errors
    evaluation = came_of_it
    print("everybody can use it", flush=True)
    everybody_can_use_it(page, evaluation)
    if pictures_dir:
        pictures.take(page, pictures_dir, evaluation)


def new_key(binary, file):
    made = subprocess.check_output([binary, "keys", "create", "console", "--role", "read", "--file", file, "--json"])
    return json.loads(made)["key"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--pictures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as own, Page(demo.ADDRESS) as page:
        folder, keys = given.folder or f"{own}/demo", f"{own}/keys.toml"
        with Demo(given.binary, folder):
            check(page, given.pictures)
        with Demo(given.binary, folder, KINDRED__KAFKA__BROKERS="127.0.0.1:1"):
            print("the feed is shown", flush=True)
            the_feed_is_shown(page)
        key = new_key(given.binary, keys)
        with Demo(given.binary, folder, KINDRED__AUTH__KEYS_FILE=keys):
            print("a key is asked for", flush=True)
            a_key_is_asked_for(page, key)
    print("the console works")


if __name__ == "__main__":
    main()
