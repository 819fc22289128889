import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { readIdentities } from '../../src/config/encryption.ts'
import { loadConfig } from '../../src/config/load.ts'
import { minimal, refusal } from './support.ts'

const age = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const ssh = `ssh-ed25519 ${'A'.repeat(68)} somebody@example.com`
const of = (encryption: unknown) => `${minimal}encryption: ${JSON.stringify(encryption)}`

await t.test('keys and files', async (t) => {
  const directory = t.testdir({ 'key.txt': 'AGE-SECRET-KEY-1QQQ\n', 'recipients.txt': `# ours\n${age}\n` })
  const files = {
    recipientsFile: join(directory, 'recipients.txt'),
    identityFile: join(directory, 'key.txt'),
  }
  await chmod(files.identityFile, 0o600)
  await chmod(files.recipientsFile, 0o644)
  const { encryption } = await loadConfig({ text: of({ recipients: [age, ssh], ...files }), env: {} })
  t.strictSame({ ...encryption }, { recipients: [age, ssh], ...files })
  t.strictSame(
    (await loadConfig({ text: minimal, env: { LIFEBOAT_ENCRYPTION_RECIPIENTS: `${age},${age}` } })).encryption
      .recipients,
    [age, age],
  )
  t.match((await loadConfig({ text: of({ identityFile: files.identityFile }), env: {} })).encryption, {
    recipients: [],
    recipientsFile: null,
  })

  await chmod(files.identityFile, 0o644)
  await writeFile(files.recipientsFile, 'rubbish')
  const { problems } = await refusal({ text: of(files), env: {} })
  t.match(problems, [{ key: 'encryption.recipientsFile', message: /line 1 is not a public key of age/ }])
  t.equal(problems.length, 1)
  await t.rejects(readIdentities(files.identityFile), { message: /has mode 0644: other users can get at it/ })

  const lost = { recipients: [age], identityFile: join(directory, 'lost') }
  t.match((await loadConfig({ text: of(lost), env: {} })).encryption, lost, 'a lost key ends no backups')
})

await t.test('what is no public key is refused, and never repeated', async (t) => {
  for (const [wrong, words] of [
    ['AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZ', /is a private key/],
    ['-----BEGIN OPENSSH PRIVATE KEY-----', /is a private key/],
    ['age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt', /plugin/],
    [age.toUpperCase(), /is not a public key/],
    [`${age}q`, /is not a public key/],
    [`${age}\n`, /is not a public key/],
    [`--output=/etc/passwd`, /is not a public key/],
    [`ecdsa-sha2-nistp256 ${'A'.repeat(68)}`, /is not a public key/],
    [`${ssh}\n--x`, /is not a public key/],
  ] as const) {
    const { problems, error } = await refusal({ text: of({ recipients: [wrong] }), env: {} })
    t.match(problems, [{ key: 'encryption.recipients[0]', message: words }], wrong)
    t.notOk(error.message.includes(wrong.trim()), 'not repeated')
  }
})
