// SPDX-License-Identifier: BSD-3-Clause
// Lists of objects (a JSON list of lists on standard input) against the schemas of a current Kubernetes, as the package
// kubernetes-models has them. Prints a list of sentences for each list, as JSON. It does not see unknown fields. The
// package keeps APIs that are gone: what was a beta of these groups is. Kinds that are not Kubernetes' own are passed over.
'use strict';
const gone = /^(extensions|apps|autoscaling|batch|policy|networking\.k8s\.io|rbac\.authorization\.k8s\.io)\/v\d+(alpha|beta)\d+$/;

function judge(o) {
  let kind;
  try {
    if (gone.test(o.apiVersion)) throw new Error('gone');
    kind = require('kubernetes-models/' + o.apiVersion + '/' + o.kind)[o.kind];
  } catch (e) {
    return /^k8s\.cni\.cncf\.io\//.test(o.apiVersion) ? [] :
      [`${o.kind} ${o.metadata.name}: ${o.apiVersion} has no ${o.kind} in a current Kubernetes`];
  }
  try {
    new kind(o).validate();
    return [];
  } catch (e) {
    return [`${o.kind} ${o.metadata.name}: ${e.message}`];
  }
}

const lists = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(lists.map(objects => objects.flatMap(judge))));
