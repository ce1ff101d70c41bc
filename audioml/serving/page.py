"""The page at `/`: what this server is, and a form to try it."""

from __future__ import annotations

from html import escape

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name} · audioml</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}
pre{{background:#f2f2f2;padding:.8rem;overflow:auto}}</style>
<h1>{name}</h1><p>Version {version}. Send audio of any format to <code>POST /predict</code>.</p>
<form><input type="file" accept="audio/*" aria-label="audio file"> <button>Predict</button></form>
<pre id="answer">curl -F file=@clip.wav {address}/predict
curl --data-binary @clip.wav -H 'Content-Type: audio/wav' {address}/predict</pre>
<p><a href="docs">API documentation</a> · <a href="health">health</a></p>
<script>
document.querySelector("form").onsubmit = async event => {{
  event.preventDefault();
  const file = document.querySelector("input").files[0];
  if (!file) return;
  const form = new FormData();
  form.append("file", file);
  const answer = await fetch("predict", {{method: "POST", body: form}});
  document.querySelector("#answer").textContent = JSON.stringify(await answer.json(), null, 2);
}};
</script></html>
"""


def render_page(name: str, version: int, address: str) -> str:
    """Return the page as HTML."""
    return PAGE.format(name=escape(name), version=version, address=escape(address.rstrip("/")))
