"""Routines: what people do again and again with the verbs: tune, reproduce, compare, schedule, hand over."""
