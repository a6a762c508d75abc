"""A terminal's screen as SVG, by rich's own export.

Run as `tmux capture-pane -e -p | python docs/images/screenshot.py TITLE WIDTH > screen.svg`.
"""

import io
import re
import sys

from rich.console import Console
from rich.text import Text

title, width = sys.argv[1], int(sys.argv[2])
console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
console.print(Text.from_ansi(sys.stdin.read().rstrip()))
svg = console.export_svg(title=title)
print(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))  # nothing is loaded from elsewhere
