// SPDX-License-Identifier: BSD-3-Clause
// Objects (a JSON list on standard input) against the schemas of a current Kubernetes, as the package
// kubernetes-models has them. Prints a sentence for each that does not fit; exit status 1 then. It does not see
// unknown fields. Kinds that are not Kubernetes' own are passed over.
'use strict';
const objects = JSON.parse(require('fs').readFileSync(0, 'utf8'));
let bad = 0, checked = 0;
for (const o of objects) {
  let kind;
  try {
    kind = require('kubernetes-models/' + o.apiVersion + '/' + o.kind)[o.kind];
  } catch (e) {
    if (!/^(k8s\.cni\.cncf\.io)\//.test(o.apiVersion)) {
      console.log(`${o.kind} ${o.metadata.name}: ${o.apiVersion} has no ${o.kind} in a current Kubernetes`);
      bad++;
    }
    continue;
  }
  try {
    new kind(o).validate();
    checked++;
  } catch (e) {
    console.log(`${o.kind} ${o.metadata.name}: ${e.message}`);
    bad++;
  }
}
console.log(`${checked} of ${objects.length} objects fit`);
process.exit(bad ? 1 : 0);
