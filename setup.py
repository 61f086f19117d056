"""Package description: everything comes from settings.ini, the file that nbdev reads too."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license=cfg["license_name"],
    license_files=["LICENSE", "wearable_imagenet/materials/LICENSE.txt", "wearable_imagenet/materials/ATTRIBUTION.txt"],
    keywords=cfg["keywords"],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["wearable_imagenet", "wearable_imagenet.*"]),
    package_data={
        "wearable_imagenet": ["gallery.html", "printers.json", "garments/*.svg", "materials/*", "materials/*/*/*.jpg"],
        "wearable_imagenet.studio": ["served/*.ipynb", "served/voila/templates/studio/*"],
    },
    install_requires=cfg["requirements"].split(),
    extras_require={name: cfg[f"{name}_requirements"].split() for name in ("dev", "docs", "heic", "hf", "studio")},
    entry_points={"console_scripts": cfg["console_scripts"].split("\n")},
    classifiers=["Programming Language :: Python :: 3", "Topic :: Scientific/Engineering :: Artificial Intelligence"],
    zip_safe=False,
)
