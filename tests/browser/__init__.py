"""A package, so that the fixtures of scope "package" (Chromium, JupyterLab) end with the last test of this folder."""
