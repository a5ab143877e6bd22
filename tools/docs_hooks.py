"""What the site makes of the code when it is built: schemas of JSON files, and the table of licences."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent))
import json_schemas
import licences

_LICENCES = "<!-- licences -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the schemas."""
    for name, model in json_schemas.DOCUMENTS.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        content = json.dumps(schema, indent=2) + "\n"
        files.append(File.generated(config, json_schemas.page(name), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Put the table of licences in its place."""
    return markdown.replace(_LICENCES, licences.table(licences.packages())) if _LICENCES in markdown else markdown
