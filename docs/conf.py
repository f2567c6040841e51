"""How the site is built from these pages: ``sphinx-build --fail-on-warning docs site``."""

from dbwatch.version import __version__

project = "dbwatch"
author = "The dbwatch authors"
project_copyright = "the dbwatch authors, under the MIT licence"
release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["*.py"]
nitpicky = True
# Links to a section of a page are checked as well, down to the third heading.
myst_heading_anchors = 3

html_theme = "furo"
html_title = "dbwatch"
html_favicon = "images/icon.svg"
html_logo = "images/icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": "https://github.com/dbwatch/dbwatch/",
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "tango"
pygments_dark_style = "monokai"
