"""The top of a report as PNG, as a browser shows it, in 256 colours.

Run as `python -m docs.images.report_picture runs/quickstart/report/report.html docs/images/report.png`.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.bench.browser.chromium import browser, chromedriver

WIDTH, HEIGHT = 900, 1180

page_file, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
with tempfile.TemporaryDirectory() as scratch, chromedriver(Path(scratch)) as driver, browser(driver) as page:
    page.open(page_file.as_uri())
    page.devtools(
        "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
    )
    page.devtools("Emulation.setScrollbarsHidden", hidden=True)
    shown = page.devtools("Page.captureScreenshot", format="png")["data"]
picture = Image.open(io.BytesIO(base64.b64decode(shown))).convert("RGB")
picture.quantize(256).save(out, optimize=True)
print(f"{out}: {out.stat().st_size} bytes")
