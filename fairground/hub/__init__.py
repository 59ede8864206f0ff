"""Where open models come from: the catalogue, pulling, and the folder that holds what was pulled.

Import from the modules themselves, so that listing the catalogue does not load an HTTP client:

    catalogue   the models that Fairground knows by name, and what an `hf:ORG/NAME` reference means
    installed   what is on this machine: `state`, `locate`, `verify`, `remove`
    pull        `pull`: out of this package, from a Hugging Face hub, or from another Python package
    home        the state folder, its layout and its locks
"""
