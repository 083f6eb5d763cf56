"""How Sphinx builds the site from docs/ (`make docs`)."""

import os
import re

os.environ.setdefault("OMP_NUM_THREADS", "1")

import keyhole  # noqa: E402

GALLERY = re.compile(r"\]\(((?:\.\./)*)gallery/(?:README|(plot_\w+))\.(?:rst|py)\)")

project = "keyhole"
author = "the authors of keyhole"
copyright = author  # noqa: A001
version = release = keyhole.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "gallery", "sg_execution_times.rst"]
default_role = "code"  # a name between single backquotes, as in our docstrings
templates_path = ["_templates"]

# Markdown that GitHub shows as well: links to headings, and to files beside the pages.
myst_heading_anchors = 3

# The API reference from docstrings.
autosummary_generate = True
autosummary_imported_members = True
autoclass_content = "class"
autodoc_typehints = "none"
napoleon_custom_sections = ["Source"]
napoleon_use_rtype = False
napoleon_use_ivar = True  # an attribute that is also a property would be described twice

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "min_reported_time": 1,
    "capture_repr": (),
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "keyhole"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def link_gallery(app, name, text):
    """Pages link to the sources of the gallery, which GitHub shows; the site has pages of them."""
    text[0] = GALLERY.sub(lambda m: f"]({m[1]}auto_gallery/{m[2] or 'index'}.rst)", text[0])


def skip_foreign(app, what, name, member, skip, options):
    """Members that come from scikit-learn or torch have a documentation of their own."""
    function = getattr(member, "fget", getattr(member, "__func__", member))
    module = getattr(function, "__module__", None) or "keyhole"
    return True if not module.startswith("keyhole") or name.endswith("_request") else None


def setup(app):
    """What Sphinx calls first."""
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("source-read", link_gallery)
