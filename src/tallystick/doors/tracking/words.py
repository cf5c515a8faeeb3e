"""Names for runs and logged models that were given none, made as MLflow makes them: ``brave-otter-417``."""

from __future__ import annotations

import secrets

__all__ = ["new_name"]

_FIRST = """
amber apt bold brave bright brisk calm clear clever cosy crisp deft eager fair fleet fond fresh gentle glad
golden grand happy hardy honest jolly keen kind lively lucid lucky merry mighty mild neat nimble noble patient
plucky proud quick quiet ready rosy rustic sage serene sharp silver snug spry steady sunny swift tidy true
upbeat vivid warm wise witty zesty
"""
_SECOND = """
acorn alder aspen badger beaver birch bison brook cedar clover comet coral crane cricket dove eagle elm falcon
fern finch fox gull hare hawk hazel heron hill ibis iris islet jay juniper kite lark lily linnet lynx maple
marten meadow moss newt oak olive orchid osprey otter owl pebble pine plover poplar puffin quail raven reed
ridge river robin rowan seal sparrow spruce stork swan tern thrush tulip vale vole willow wren yew
"""


def new_name() -> str:
    """Adjective, noun and a number up to 1,000: at most 20 characters."""
    return f"{secrets.choice(_FIRST.split())}-{secrets.choice(_SECOND.split())}-{secrets.randbelow(1001)}"
