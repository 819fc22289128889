import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t from 'tap'
import type { EncryptionConfig } from '../../src/config/validated.ts'
import { LifeboatError, toFailure } from '../../src/domain/errors.ts'
import { decryptStage, encryptStage, lookAtKeys } from '../../src/encryption/age.ts'
import { decryptBytes, encryptBytes, filterThrough } from '../../src/encryption/filter.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { ageKey, encryptingFor } from '../support/age.ts'

const directory = await mkdtemp(join(tmpdir(), 'lifeboat-age-'))
t.teardown(() => rm(directory, { recursive: true, force: true }))
const { signal } = new AbortController()
const [ours, others, both] = [await ageKey(directory, 'ours'), await ageKey(directory, 'others'), 'both.txt']
const config = encryptingFor([ours])
const open = (bytes: Uint8Array | Readable, how: EncryptionConfig = config) =>
  decryptBytes(how, bytes, { mostBytes: 1 << 20, signal })
const failing = async (work: Promise<unknown>) =>
  work.then(
    () => ({ code: 'none', message: '', hint: '' }),
    (error: unknown) => toFailure(error),
  )

const ssh = async (name: string, ...args: string[]) => {
  const file = join(directory, name)
  await runProgram({ program: 'ssh-keygen', args: ['-q', '-N', '', '-f', file, ...args] })
  return file
}

await t.test('keys that are gone are missed before they are needed', async (t) => {
  const { file: privateFile } = await ageKey(directory, 'gone')
  const keys = { recipients: [], recipientsFile: null, identityFile: privateFile }
  t.equal(lookAtKeys({ ...keys, identityFile: null }), null, 'there is nothing to look at')
  const look = async (config: EncryptionConfig) => lookAtKeys(config)?.()
  t.match(await failing(look(keys)), { code: 'none' })
  await rm(privateFile)
  t.match(await failing(look(keys)), { code: 'config-invalid' })
  t.match(await failing(look({ ...keys, recipientsFile: privateFile, identityFile: null })), { code: 'config-invalid' })
})

await t.test('what goes in comes out, of any size', async (t) => {
  for (const size of [0, 1, 65_535, 65_536, 65_537, 300_000]) {
    const plain = randomBytes(size)
    const stored = await encryptBytes(config, plain, signal)
    t.ok(stored.length > size && (size < 16 || !stored.includes(plain.subarray(0, 16))), `${size} bytes are hidden`)
    t.ok((await open(stored)).equals(plain), `${size} bytes`)
    t.ok((await open(Readable.from([stored]))).equals(plain), `${size} bytes of a stream`)
  }
})

await t.test('each of several recipients opens it, and a file may hold several keys', async (t) => {
  const stored = await encryptBytes(encryptingFor([ours, others]), Buffer.from('x'), signal)
  for (const { file } of [ours, others]) t.equal(String(await open(stored, encryptingFor([ours], file))), 'x')
  const file = join(directory, both)
  const keys = await Promise.all(
    [others, ours].map(async ({ file: one }) => (await runProgram({ program: 'cat', args: [one] })).stdout),
  )
  await writeFile(file, keys.join('\n'), { mode: 0o600 })
  t.equal(String(await open(await encryptBytes(config, Buffer.from('y'), signal), encryptingFor([ours], file))), 'y')
})

await t.test('recipients of a file count, and are read at each use', async (t) => {
  const file = join(directory, 'recipients.txt')
  const from = { recipients: [], recipientsFile: file, identityFile: ours.file }
  await writeFile(file, `# who may read\n\n${ours.recipient}\n`, { mode: 0o644 })
  t.equal(String(await open(await encryptBytes(from, Buffer.from('z'), signal))), 'z')
  await writeFile(file, others.recipient)
  const stored = await encryptBytes(from, Buffer.from('z'), signal)
  t.match(await failing(open(stored)), { code: 'identity-mismatch' })
  t.equal(String(await open(stored, encryptingFor([others]))), 'z')
  for (const [text, words] of [
    ['', 'holds no public key'],
    [`${ours.recipient}\nrubbish\n`, 'line 2 is not a public key'],
    ['\0\xff\xfe', 'line 1'],
    ['AGE-SECRET-KEY-1ABC', 'line 1 is a private key'],
    ['age1yubikey1qwz9scyx', 'line 1 is a key of a plugin'],
  ] as const) {
    await writeFile(file, text)
    const failure = await failing(encryptBytes(from, Buffer.from('z'), signal))
    t.equal(failure.code, 'config-invalid', words)
    t.match(failure.message, words)
  }
  await writeFile(file, ours.recipient)
  await chmod(file, 0o666)
  t.match(await failing(encryptBytes(from, Buffer.from('z'), signal)), { message: /written by other users/ })
})

await t.test('a recipient that is mistyped is refused by age itself', async (t) => {
  const typo = ours.recipient.replace(/.$/, (last) => (last === 'q' ? 'p' : 'q'))
  const failure = await failing(encryptBytes({ ...config, recipients: [typo] }, Buffer.from('x'), signal))
  t.match(failure, { code: 'config-invalid', message: /invalid checksum|malformed/ })
})

await t.test('keys of SSH', async (t) => {
  const file = await ssh('ed', '-t', 'ed25519', '-C', 'a comment')
  const recipient = (await runProgram({ program: 'cat', args: [`${file}.pub`] })).stdout.trim()
  const keys = { recipients: [recipient], recipientsFile: null, identityFile: file }
  t.equal(String(await open(await encryptBytes(keys, Buffer.from('s'), signal), keys)), 's')
  const locked = await ssh('locked', '-t', 'ed25519')
  await runProgram({ program: 'ssh-keygen', args: ['-p', '-P', '', '-N', 'geheim', '-f', locked] })
  const failure = await failing(open(Buffer.alloc(1), { ...keys, identityFile: locked }))
  t.match(failure, { code: 'config-invalid', message: /protected by a passphrase/ })
})

await t.test('why it cannot be opened is told apart', async (t) => {
  const plain = randomBytes(200_000)
  const stored = await encryptBytes(config, plain, signal)
  t.match(await failing(open(stored, { ...config, identityFile: null })), { code: 'identity-missing', hint: String })
  t.match(await failing(open(stored, encryptingFor([others]))), { code: 'identity-mismatch', hint: String })
  const flipped = Buffer.from(stored)
  flipped.writeUInt8(flipped.readUInt8(150_000) ^ 1, 150_000)
  const chunk = 65_536 + 16
  const headed = stored.length - (200_000 + 4 * 16) // header and nonce
  const damaged: readonly (readonly [string, Buffer])[] = [
    ['a bit that turned over', flipped],
    ['cut off in a chunk', stored.subarray(0, 150_000)],
    ['cut off between two chunks', stored.subarray(0, headed + 2 * chunk)],
    ['cut off in the header', stored.subarray(0, 40)],
    ['nothing', Buffer.alloc(0)],
    ['rubbish', randomBytes(500)],
    ['more than there was', Buffer.concat([stored, Buffer.from('x')])],
    ['a chunk that is missing', Buffer.concat([stored.subarray(0, headed), stored.subarray(headed + chunk)])],
  ]
  for (const [what, bytes] of damaged) t.match(await failing(open(bytes)), { code: 'artifact-invalid' }, what)
  t.match(
    await failing(decryptBytes(config, stored, { mostBytes: 1000, signal })),
    { code: 'artifact-invalid', message: /more than 1000/ },
    'a limit of what is taken into memory',
  )
})

await t.test('identity files that will not do', async (t) => {
  const file = join(directory, 'bad.txt')
  for (const [text, mode, words] of [
    ['', 0o600, 'holds no private key'],
    ['rubbish', 0o600, 'holds no private key'],
    ['age-encryption.org/v1\n-> scrypt', 0o600, 'protected by a passphrase'],
    ['AGE-PLUGIN-YUBIKEY-1QQ', 0o600, 'plugin'],
    ['AGE-SECRET-KEY-1QQ', 0o600, 'age cannot use the configured keys'],
    ['AGE-SECRET-KEY-1QQ', 0o644, 'other users can get at it'],
  ] as const) {
    await writeFile(file, text, { mode })
    await chmod(file, mode)
    const failure = await failing(open(Buffer.from('x'), { ...config, identityFile: file }))
    t.equal(failure.code, 'config-invalid', words)
    t.match(failure.message, words)
    t.notMatch(failure.message, 'SECRET-KEY-1QQ', 'a key is never told')
  }
  for (const path of [join(directory, 'nowhere'), directory])
    t.match(await failing(open(Buffer.from('x'), { ...config, identityFile: path })), { code: 'config-invalid' })
})

await t.test('no age, an age that is killed, a source that breaks off, a run that is cancelled', async (t) => {
  const missing = { program: join(directory, 'age'), args: [] }
  t.match(await failing(filterThrough(missing, Buffer.from('x'), signal, async () => {})), {
    code: 'program-missing',
    hint: 'install the package that carries age',
  })
  const stage = await encryptStage(config)
  if (stage === null) return t.fail()
  const breaking = new Readable({ read() {} })
  breaking.push(randomBytes(100_000))
  const broken = new LifeboatError('storage-failed', 'the disk is gone')
  const cut = filterThrough(stage, breaking, signal, async (output) => {
    output.resume()
    breaking.destroy(broken)
  })
  t.match(await failing(cut), { code: 'storage-failed', message: 'the disk is gone' })

  const endless = new Readable({ read() {} })
  endless.push(randomBytes(200_000))
  const killing = filterThrough({ ...stage, program: 'sh', args: ['-c', 'kill -9 $$'] }, endless, signal, async (o) => {
    for await (const _ of o);
  })
  t.match(await failing(killing), { code: 'program-failed', message: /SIGKILL/ })
  t.ok(endless.destroyed)

  const cancelling = new AbortController()
  const waiting = new Readable({ read() {} })
  const cancelled = filterThrough(await decryptStage(config), waiting, cancelling.signal, async (output) => {
    cancelling.abort(new LifeboatError('cancelled', 'enough'))
    for await (const _ of output);
  })
  t.match(await failing(cancelled), { code: 'cancelled' })
})
