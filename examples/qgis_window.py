"""A picture of the window of QGIS with a project of `prngeo predict`; QGIS itself runs this.

PICTURE=examples/qgis.png xvfb-run -a -s "-screen 0 1100x700x24" \
        qgis --nologo --noversioncheck --project out/town.qgz --code examples/qgis_window.py
"""

import os

from qgis.PyQt.QtCore import QSize, Qt, QTimer
from qgis.PyQt.QtWidgets import QApplication, QDockWidget, QToolBar
from qgis.utils import iface

WAIT = 6000  # milliseconds that the map has to be drawn in


def arrange():
    """The legend beside the map, and nothing else."""
    window = iface.mainWindow()
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() == "Layers")
    for bar in window.findChildren(QToolBar):
        bar.setVisible(bar.objectName() in ("mFileToolBar", "mMapNavToolBar"))
    window.showNormal()
    window.move(0, 0)
    window.resize(QSize(1100, 700))
    legend = window.findChild(QDockWidget, "Layers")
    window.resizeDocks([legend], [260], Qt.Orientation.Horizontal)
    QTimer.singleShot(WAIT, show_all)


def show_all():
    """The whole scene in the map."""
    iface.zoomFull()
    QTimer.singleShot(WAIT, save)


def save():
    """Write the picture and leave."""
    iface.mainWindow().grab().save(os.environ["PICTURE"])
    QApplication.instance().quit()


QTimer.singleShot(WAIT, arrange)
