"""One module for each page; `webui.app` mounts them."""
