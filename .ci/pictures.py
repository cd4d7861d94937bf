"""Pictures of the console for the README, each under 150 kB."""

import pathlib


def take(page, folder, evaluation):
    def shot(name, route, ready, width=1160, height=800, dark=False, press=None, then="body"):
        page.look(width, height, dark)
        page.go(route)
        page.until(lambda: page.all(ready), f"{route} is not ready")
        if press:
            page.click(press)
            page.one(then)
            page.run("document.activeElement.blur(); window.scrollTo(0, 0)")
        path = pathlib.Path(folder) / f"{name}.png"
        page.driver.save_screenshot(str(path))
        print(f"{path}: {path.stat().st_size // 1000} kB", flush=True)

    pathlib.Path(folder).mkdir(exist_ok=True)
    # Texts that nobody has asked with yet: the time of their encoding is to be seen.
    shot("search", "#/search?in=jobs&q=nurse+for+patients+after+surgery", ".hits mark", press=".hits .quiet")
    shot("search-dark", "#/search?in=jobs&q=teach+music+to+children,+from+home&f.remote=true", ".hits mark", dark=True)
    shot("phone", "#/search?in=members&for=jobs&id=j813", ".hits mark, .hits .text p", 390, 800)
    # It has been rebuilt, and gone back to the generation before.
    shot("collection", "#/collections/members", ".facts", height=1240, press="#measure", then="table:has(.share)")
    shot("evaluation", f"#/evaluations/{evaluation}", "#report h2")
    page.look()
