#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Manifests of today for a cluster of Kubernetes 1.20, by their API versions alone; the rest is the same in both.

    kubectl kustomize k8s/overlays/dev | k8s/for-1.20.py | kubectl apply -f -
"""
import sys

OLDER = {
    "apiVersion: policy/v1\n": "apiVersion: policy/v1beta1\n",                  # PodDisruptionBudget
    "apiVersion: autoscaling/v2\n": "apiVersion: autoscaling/v2beta2\n",        # HorizontalPodAutoscaler
}

if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(OLDER.get(line, line))
