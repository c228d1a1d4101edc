#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Opens pages of `report` in a real browser, where there is one (Chromium: apt-get install chromium; 400 MB, so nothing
# installs it for this): no message on the console, nothing asked of a network or of another file, no sideways scrolling
# on a telephone, light and dark, and on paper; text that stands out from its ground (WCAG 2: 4.5 to 1, large letters 3
# to 1), and a keyboard that reaches everything and shows where it is.
set -euo pipefail

usage() { echo "usage: tests/scripts/test_report.sh BIN   BIN: the folder of the built programs"; }
case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  '') usage >&2 && exit 2 ;;
esac
bin=$(cd "$1" && pwd)
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../configs" && pwd)

browser=""
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" > /dev/null; then browser=$name && break; fi
done
if [ -z "$browser" ]; then
  echo "skipped: no chromium here (apt-get install chromium)"
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

# Without a network: what a page asked for would fail, and be told on the console.
open_page() { # FILE FLAGS..
  local file=$1
  shift
  timeout 120 "$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --host-resolver-rules='MAP * ~NOTFOUND' --user-data-dir="$work/profile" \
    --enable-logging=stderr "$@" "file://$file" 2> "$work/browser.log"
}
expect_quiet() { # WHAT
  if grep -E 'CONSOLE' "$work/browser.log" > "$work/console"; then fail "$1: the console says: $(head -n 3 "$work/console")"; fi
}

# A page that holds the report in a frame as wide as a telephone, and writes into itself what it measures there.
frame_for() { # REPORT WIDTH
  echo '<!DOCTYPE html><html><head><meta name="color-scheme" content="light dark"></head><body>'
  echo "<iframe id=\"frame\" style=\"border:0;width:$2px;height:800px\" srcdoc=\""
  sed 's/&/\&amp;/g; s/"/\&quot;/g' "$1"
  cat << 'HTML'
"></iframe><p id="measured">not measured</p><script>
document.getElementById("frame").addEventListener("load", () => {
  const inside = document.getElementById("frame").contentWindow, page = inside.document;
  for (const one of page.querySelectorAll("details")) one.open = true;
  const root = page.documentElement, wide = [];
  for (const one of page.body.querySelectorAll("*"))
    if (one.getBoundingClientRect().right > root.clientWidth + 1 && !one.closest(".scroll, svg, pre, .skip"))
      wide.push(one.tagName + "." + one.className);
  const resources = inside.performance.getEntriesByType("resource").map(one => one.name)
                          .filter(name => !name.startsWith("data:"));
  const look = one => inside.getComputedStyle(one);
  const channels = colour => colour.match(/[\d.]+/g).map(Number);
  const light = rgb => {
    const [r, g, b] = rgb.map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const on = (colour, below) => {
    const [r, g, b, a = 1] = channels(colour);
    return [r, g, b].map((c, i) => a * c + (1 - a) * below[i]);
  };
  const ground = one => one ? on(look(one).backgroundColor, ground(one.parentElement)) : channels(look(page.body).backgroundColor);
  const opacity = one => one ? look(one).opacity * opacity(one.parentElement) : 1;
  const pale = new Set();
  for (const one of page.body.querySelectorAll("*")) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim() !== "");
    if (!own || one.getClientRects().length === 0 || one.closest("title, desc")) continue;
    const of = look(one), colour = one instanceof inside.SVGElement ? of.fill : of.color, size = parseFloat(of.fontSize);
    const large = size >= 24 || (size >= 18.66 && of.fontWeight >= 700);
    const edged = one instanceof inside.SVGElement && of.stroke !== "none";  // letters on a picture have an edge
    const under = edged ? channels(of.stroke) : ground(one), seen = opacity(one);
    const ink = on(colour, under).map((c, i) => seen * c + (1 - seen) * under[i]);
    const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) pale.add(one.tagName + " " + ink.map(Math.round) + " on " + under.map(Math.round));
  }
  const mute = [];
  for (const one of page.querySelectorAll("a[href], summary, [tabindex='0']")) {
    one.focus({focusVisible: true});
    const box = one.getBoundingClientRect();
    const shown = look(one).outlineStyle !== "none" && parseFloat(look(one).outlineWidth) >= 2 && box.left >= 0;
    if (page.activeElement !== one || !shown) mute.push(one.tagName + "." + one.className);
  }
  for (const one of page.body.querySelectorAll("*"))
    if (one.scrollWidth > one.clientWidth + 1 && /auto|scroll/.test(look(one).overflowX) && one.tabIndex < 0)
      mute.push("scrolls:" + one.tagName + "." + one.className);
  const broken = [...page.querySelectorAll("svg")].filter(one => one.getBoundingClientRect().width < 1).length;
  document.getElementById("measured").textContent =
    "width " + root.scrollWidth + "/" + root.clientWidth + " wide [" + wide.slice(0, 5) + "] resources [" + resources +
    "] pale [" + [...pale].slice(0, 5) + "] mute [" + mute.slice(0, 5) + "] broken " + broken +
    " ground " + inside.getComputedStyle(page.body).backgroundColor;
});
</script></body></html>
HTML
}

measure() { # REPORT WIDTH FLAGS..
  local report=$1 width=$2
  shift 2
  frame_for "$report" "$width" > "$work/frame.html"
  open_page "$work/frame.html" --window-size=1200,900 --virtual-time-budget=5000 --dump-dom "$@" |
    sed -n 's|.*<p id="measured">\(.*\)</p>.*|\1|p'
}

expect_good() { # WHAT MEASURED GROUND
  local what=$1 measured=$2 ground=$3
  expect_quiet "$what"
  [[ $measured =~ ^width\ ([0-9]+)/([0-9]+)\  ]] || { fail "$what: $measured" && return; }
  if [ "${BASH_REMATCH[1]}" -gt "${BASH_REMATCH[2]}" ]; then fail "$what: scrolls sideways: $measured"; fi
  for part in 'wide []' 'resources []' 'pale []' 'mute []' 'broken 0' "ground $ground"; do
    if [[ $measured != *"$part"* ]]; then fail "$what: not '$part': $measured"; fi
  done
}

"$bin/experiment" fig3 --scale tiny --seeds 1 --device cpu --configs "$configs/paper" --output "$work/out" > "$work/log" 2>&1 ||
  { cat "$work/log" && exit 1; }
"$bin/report" "$work/out" --runs > /dev/null

for report in "$work/out/report.html" "$work/out/runs/grad_libra/seed_1/report.html"; do
  name=${report#"$work/out/"}
  for width in 360 1100; do
    expect_good "$name, $width wide" "$(measure "$report" "$width")" 'rgb(255, 255, 255)'
  done
  expect_good "$name, dark" "$(measure "$report" 360 --force-dark-mode)" 'rgb(23, 24, 26)'
  rm -f "$work/page.pdf"
  open_page "$report" --print-to-pdf="$work/page.pdf" --no-pdf-header-footer
  expect_quiet "$name, on paper"
  if [ "$(head -c 5 "$work/page.pdf" 2> /dev/null)" != '%PDF-' ]; then fail "$name: was not printed"; fi
done

# The check finds what it is for: a page that asks for something, is too wide, writes to the console, has letters as
# pale as their ground, and a link that does not show that it has the focus.
bad='<p style="width:900px">wide</p><img src="https://example.org/a.png" alt=""/><p style="color:#999">pale</p><a href="#content" style="outline:none">mute</a>'
sed "s|</main>|$bad</main>|" \
  "$work/out/report.html" > "$work/bad.html"
measured=$(measure "$work/bad.html" 360)
if ! grep -q CONSOLE "$work/browser.log"; then fail "a picture from elsewhere is not noticed"; fi
for part in wide pale mute; do
  if [[ $measured == *"$part []"* ]]; then fail "'$part' is not noticed: $measured"; fi
done

if [ "$failures" -gt 0 ]; then exit 1; fi
echo "passed with $("$browser" --version)"
