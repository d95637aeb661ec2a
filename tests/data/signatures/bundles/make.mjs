// How the bundles beside this were made: npm install @sigstore/sign@4.1.1 @sigstore/bundle; node make.mjs MANIFEST.
// The keys are made anew, and forgotten.
import { DSSEBundleBuilder, MessageSignatureBundleBuilder } from '@sigstore/sign';
import { bundleToJSON } from '@sigstore/bundle';
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

const manifest = readFileSync(process.argv[2]);
const sha256 = createHash('sha256').update(manifest).digest('hex');
const kinds = {
  p256: ['ec', { namedCurve: 'P-256' }, 'sha256'],
  p384: ['ec', { namedCurve: 'P-384' }, 'sha384'],
  ed25519: ['ed25519', {}, null],
};
for (const [name, [type, options, hash]] of Object.entries(kinds)) {
  const { privateKey, publicKey } = generateKeyPairSync(type, options);
  const pem = publicKey.export({ type: 'spki', format: 'pem' });
  writeFileSync(`${name}.pub`, pem);
  const hint = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64');
  const signer = {
    sign: async (data) => ({ signature: sign(hash, data, privateKey), key: { $case: 'publicKey', publicKey: pem, hint } }),
  };
  const write = async (what, Builder, artifact) => {
    const bundle = await new Builder({ signer, witnesses: [] }).create(artifact);
    writeFileSync(`${name}-${what}.json`, JSON.stringify(bundleToJSON(bundle)) + '\n');
  };
  const statement = (predicateType, more, subject = {}) => ({
    data: Buffer.from(JSON.stringify({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ digest: { sha256 }, annotations: {}, ...subject }],
      predicateType,
      ...more,
    })),
    type: 'application/vnd.in-toto+json',
  });
  // As cosign 3 signs: no name, and in its first versions no predicate either.
  const cosign = 'https://sigstore.dev/cosign/sign/v1';
  await write('dsse', DSSEBundleBuilder, statement(cosign, { predicate: {} }));
  if (name !== 'p256') continue;
  await write('message', MessageSignatureBundleBuilder, { data: manifest });
  await write('dsse-bare', DSSEBundleBuilder, statement(cosign, {}));
  await write('dsse-named', DSSEBundleBuilder, statement(cosign, { predicate: {} }, { name: 'r.example/app:1' }));
  await write('dsse-other', DSSEBundleBuilder, statement(cosign, { predicate: {} }, { digest: { sha256: 'ab'.repeat(32) } }));
  await write('attestation', DSSEBundleBuilder, statement('https://slsa.dev/provenance/v1', { predicate: {} }));
  await write('not-in-toto', DSSEBundleBuilder, { ...statement(cosign, { predicate: {} }), type: 'application/json' });
  // The old media types differ in nothing that is read of them.
}
