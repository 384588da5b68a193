"""Draw the masks of a prediction over their scene: python overlay.py SCENE OUTPUT_FOLDER PICTURE.png."""

import sys
from pathlib import Path

from prngeo.overlay import write_overlay

if __name__ == "__main__":
    scene, folder, picture = map(Path, sys.argv[1:])
    suffix = "_mask.tif"
    masks = {
        path.name.removeprefix(f"{scene.stem}_").removesuffix(suffix): path
        for path in sorted(folder.glob(f"{scene.stem}_*{suffix}"))
    }
    write_overlay(scene, masks, picture)
