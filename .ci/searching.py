"""What people do on the console's page of searches."""

from chrome import Keys
from demo import ask

NURSE = "keep patients safe as a nurse on night shift"
HOSTILE = {
    "id": "<b>hostile</b>",
    "title": '<img src=x onerror="window.hacked = 1"> zookeeper of zebras',
    "company": '"><script>window.hacked = 2</script>',
    "skills": ["<svg onload='window.hacked = 3'>", "feeding zebras"],
    "description": "Feed the zebras. </p><style>body { display: none }</style><a href='javascript:window.hacked = 4'>zebras</a> of the zoo.",
}


def search(page, text=NURSE):
    """Types a text into the box and waits for its hits."""
    page.write("#query", text)
    page.keys(Keys.ENTER)
    page.until(lambda: page.driver.title.startswith(text), "the search was not carried out")
    found(page)


def found(page):
    page.until(lambda: not page.all(".results[aria-busy]") and page.all(".hits > li"), "there are no hits")


def n_matching(page):
    return int(page.text("#found").split(" of ")[1].split()[0].replace(",", ""))


def a_search_shows_hits(page):
    page.go("")
    search(page)
    expected = ask("/v1/collections/jobs/search", {"query": {"text": NURSE}})["hits"]
    assert [e.get_attribute("data-id") for e in page.all(".hits > li")] == [hit["id"] for hit in expected]
    assert page.text(".hits h3") == expected[0]["fields"]["title"]
    assert "Nurse" in page.text(".hits") and "retrieve" in page.text(".timings") and "generation 0" in page.text(".how summary")
    assert page.run("return document.getElementById('live').textContent").startswith("10 hits of "), "a screen reader is not told"
    page.until(lambda: page.all(".hits mark"), "no phrase is marked")
    # A link to the search is the search.
    address = page.driver.current_url
    page.go("")
    page.driver.get(address)
    page.driver.refresh()
    found(page)
    assert page.one("#query").get_attribute("value") == NURSE


def a_filter_narrows(page):
    before = n_matching(page)
    count = int(page.text("label[for='filter-remote=true'] .count").split()[0].replace(",", ""))
    page.click("[id='filter-remote=true']")
    page.until(lambda: n_matching(page) == count, f"the facet counts {count} documents, and not so many match")
    found(page)
    assert 0 < count < before and all("remote" in e.text for e in page.all(".hits .details"))
    assert page.focused().get_attribute("id") == "filter-remote=true", "the focus is lost"
    assert page.all("[id='filter-remote=false']"), "what a chosen value excludes cannot be chosen any more"
    page.click("[id='filter-salary.min']")
    page.write("#filter-salary\\.min-from", "60000")
    page.keys(Keys.ENTER)
    page.until(lambda: n_matching(page) < count, "a range does not narrow")
    page.click(".chip", "salary")
    page.until(lambda: n_matching(page) == count, "a filter that is taken away still counts")
    page.driver.back()
    page.until(lambda: n_matching(page) < count, "Back does not go back")
    page.driver.forward()
    page.until(lambda: n_matching(page) == count, "nor forward")


def why_it_is_not_here(page):
    away = ask("/v1/collections/jobs/search", {"query": {"text": NURSE}, "filter": {"must": [{"key": "remote", "match": {"value": False}}]}})
    page.write("#why-id", away["hits"][0]["id"])
    page.keys(Keys.ENTER)
    assert page.one(".why-answer [data-fate]").get_attribute("data-fate") == "filtered_out"
    assert "stopped here" in page.text(".stages li") and "keeps it out" in page.text(".stages table")
    page.click(".chip", "remote")
    page.until(lambda: not page.all(".chip"), "the filter is not taken away")
    found(page)
    page.errors()
    page.write("#why-id", "nobody")
    page.keys(Keys.ENTER)
    assert "nobody" in page.text(".why-answer .notice")
    assert len(page.errors()) == 1


def a_score_is_explained(page):
    page.click(".hits button", "Score")
    terms = page.all(".terms")[0]
    assert "dot" in terms.text and "to the last bit" in terms.text
    score = float(page.text(".hit-score b"))
    adds = [float(e.text.replace("−", "-")) for e in page.all(".hits > li:first-child .terms tbody td:nth-child(4)")]
    assert len(adds) >= 2 and abs(sum(adds) - score) < 0.001, (adds, score)
    bars = [e.size["width"] for e in page.all(".hits > li:first-child .terms .bar rect:first-child")]
    assert max(bars) > 50 and len(bars) == len(adds) and bars.index(max(bars)) == adds.index(max(adds)), (bars, adds)
    page.click(".hits button", "Document")
    assert '"title"' in page.text(".hits pre")


def matches_of_a_document(page):
    page.click(".hits a", "Find members")
    page.until(lambda: "like" not in page.text(".asking").lower() and page.all(".hits > li[data-id^=m]"), "no members are found for a job")
    page.until(lambda: "Nurse" in page.text(".asking b"), "the job is not named")
    page.write("#why-id", page.one(".hits > li").get_attribute("data-id"))
    page.keys(Keys.ENTER)
    assert page.one(".why-answer [data-fate]").get_attribute("data-fate") == "hit"
    page.click(".hits a", "Similar")
    page.until(lambda: "Like" in page.text(".asking"), "no similar members are found")
    page.click(".picker summary")
    page.write(".picker input", "baker")
    page.keys(Keys.ENTER)
    page.click(".choices button")
    page.until(lambda: "Baker" in page.text(".asking b"), "the chosen document is not asked with")


def a_failed_request_says_why(page):
    page.go("#/search?in=jobs&for=members&id=nobody")
    assert "nobody" in page.text(".results [role=alert]") and "404" in page.text(".results .fine")
    page.go("")
    search(page)
    page.errors()
    page.driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    page.write("#query", "welder")
    page.keys(Keys.ENTER)
    assert "does not answer" in page.text(".results [role=alert]")
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**offline, "offline": False})
    page.click(".results [role=alert] button", "Try again")
    found(page)
    assert "Weld" in page.text(".hits")
    # What this server does not answer now, others do: no room, and a key that is wanted.
    refuse = """const real = window.fetch; window.seen = [];
        window.fetch = (path, options) => options.method !== 'POST' || window.seen.push(options.headers.authorization) > 1 ? real(path, options)
            : Promise.resolve(new Response('{"error": {"code": "refused", "message": "not now", "request_id": "r-1"}}', {status: %d, headers: {'retry-after': '7'}}));"""
    page.run(refuse % 429)
    page.click("#search")
    assert "in 7 s" in page.text(".results [role=alert]") and "r-1" in page.text(".results [role=alert]")
    page.click(".results [role=alert] button", "Try again")
    found(page)
    page.run(refuse % 401)
    page.click("#search")
    page.write(".results [type=password]", "secret")
    page.keys(Keys.ENTER)
    found(page)
    assert page.run("return window.seen")[:2] == [None, "Bearer secret"]
    page.run("sessionStorage.clear()")
    page.errors()


def the_keyboard_is_enough(page):
    page.go("")
    page.one("#query")
    page.keys(Keys.TAB)
    assert page.focused().text == "Skip to the content"
    page.keys(Keys.ENTER)
    assert page.focused().get_attribute("id") == "main"
    page.keys("/")
    assert page.focused().get_attribute("id") == "query"
    page.keys("welder", Keys.ENTER)
    page.until(lambda: page.driver.title.startswith("welder"), "Enter does not search")
    found(page)
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.run("return document.activeElement.matches('.hits > li:nth-child(2)')"), "the arrow keys do not go to the hits"
    page.keys(Keys.TAB, Keys.ENTER)
    assert page.focused().get_attribute("aria-expanded") == "true" and page.one(".hits .terms")
    page.one("#to").send_keys("members")
    page.until(lambda: "in=members" in page.driver.current_url and page.all(".hits > li[data-id^=m]"), "the direction does not change by keys")
    assert page.focused().get_attribute("id") == "to"


def hostile_documents_are_text(page):
    path = "/v1/collections/jobs/documents"
    assert ask(path, HOSTILE, "PUT")["items"][0]["status"] in (200, 201)
    try:
        page.go("")
        search(page, "feeding zebras zookeeper")
        assert page.text(".hits h3") == HOSTILE["title"] and HOSTILE["company"] in page.text(".hits .details")
        assert "javascript:" in page.text(".hits .text") and "<svg onload" in page.text(".hits .tags")
        page.until(lambda: page.all(".hits mark"), "no phrase is marked")
        page.click(".hits button", "Document")
        page.click("[id='filter-remote=false']") if page.all("[id='filter-remote=false']") else None
        assert not page.all("main img, main script, main style, main a[href^=javascript]")
        assert page.run("return window.hacked") is None
        page.go("#/search?" + "in=jobs&for=jobs&id=%3Cb%3Ehostile%3C%2Fb%3E")
        page.until(lambda: page.text(".asking b") == HOSTILE["title"], "the hostile document is not named")
        assert not page.all("main img") and page.run("return window.hacked") is None
    finally:
        ask(f"{path}/delete", {"ids": [HOSTILE["id"]]})
