"""The configuration of the documentation site, which `tools/docs` builds."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import embstore  # noqa: E402

project = "embstore"
author = "the authors of embstore"
project_copyright = "the authors of embstore, Apache License 2.0"
version = release = embstore.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "tools.site"]
exclude_patterns = ["figures/*.py"]

# Names in single backticks of a docstring are references, and an unknown one is an error.
default_role = "py:obj"
nitpicky = True
# Pages may be built without the optional packages. Sphinx cannot stand in for a class decorator.
autodoc_mock_imports = ["obstore", "ray", "tensorflow", "torch"]
keras = ModuleType("keras")
keras.layers = SimpleNamespace(Layer=type("Layer", (), {}))
keras.saving = SimpleNamespace(register_keras_serializable=lambda package: lambda layer: layer)
sys.modules["keras"] = keras
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False
highlight_language = "none"
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = "embstore"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "source_repository": "https://github.com/embstore/embstore",
    "source_branch": "main",
    "source_directory": "docs/",
    "navigation_with_keys": True,
}
pygments_style = "default"
pygments_dark_style = "github-dark"
