# SPDX-License-Identifier: BSD-3-Clause
"""Holds JSON against an OpenAPI 3.0 file: the part of its schemas that ours uses, strictly."""
import re

TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}


class Api:
    def __init__(self, document):
        self.document = document

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].lstrip("#/").split("/"):
                target = target[part]
            node = target
        return node

    def operation(self, method, path):
        """The description of a request, None: it has none."""
        for pattern, methods in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", pattern), path.split("?")[0]):
                return methods.get(method.lower())
        return None

    def wrong_answer(self, method, path, status, answer):
        """What is wrong with an answer; None: nothing."""
        operation = self.operation(method, path)
        if operation is None:
            return None if status in (404, 405) and set(answer) == {"error"} else "not described: %s" % answer
        response = operation["responses"].get(str(status))
        if response is None:
            return "%d is not described for %s %s: %s" % (status, method, path, answer)
        schema = self.resolve(response)["content"]["application/json"]["schema"]
        return self.wrong(answer, schema, "answer")

    def wrong(self, value, schema, at):
        schema = self.resolve(schema)
        if value is None:
            return None if schema.get("nullable") else at + " is null"
        if "allOf" in schema:
            return self._wrong_all_of(value, schema["allOf"], at)
        kind = TYPES[schema["type"]]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            return "%s is no %s: %r" % (at, schema["type"], value)
        if "enum" in schema and value not in schema["enum"]:
            return "%s is none of its values: %r" % (at, value)
        if "minimum" in schema and value < schema["minimum"]:
            return "%s is too small: %r" % (at, value)
        if kind is list:
            return next(filter(None, (self.wrong(v, schema["items"], "%s[%d]" % (at, i))
                                      for i, v in enumerate(value))), None)
        return self._wrong_object(value, schema, at) if kind is dict else None

    def _wrong_all_of(self, value, parts, at):
        merged = {"type": "object", "required": [], "properties": {}, "additionalProperties": False}
        for part in parts:
            part = self.resolve(part)
            merged["required"] = merged["required"] + part.get("required", [])
            merged["properties"] = dict(merged["properties"], **part.get("properties", {}))
        return self.wrong(value, merged, at)

    def _wrong_object(self, value, schema, at):
        missing = set(schema.get("required", [])) - set(value)
        if missing:
            return "%s lacks %s" % (at, sorted(missing))
        more = schema.get("additionalProperties", True)
        for key, v in value.items():
            child = schema.get("properties", {}).get(key)
            if child is None and more is False:
                return "%s has %s, which is not described" % (at, key)
            if child is None and not isinstance(more, dict):
                continue
            bad = self.wrong(v, child if child is not None else more, "%s.%s" % (at, key))
            if bad:
                return bad
        return None
