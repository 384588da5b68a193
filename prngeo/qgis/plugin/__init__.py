"""QGIS plugin: Processing algorithms that call the `prngeo` command. It imports QGIS and the standard library only."""


def classFactory(iface):  # the name that QGIS calls
    """The plugin; `iface` is the window of QGIS, or None without one."""
    from .provider import Plugin

    return Plugin()
