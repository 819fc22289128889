import fc from 'fast-check'
import t from 'tap'
import { parseFileUrl, parseListen, parseRepositoryUrl } from '../../src/config/addresses.ts'
import { nearest } from '../../src/config/suggest.ts'
import { formatDuration, formatSize, parseDuration, parseSize, quote } from '../../src/config/units.ts'
import { LifeboatError } from '../../src/domain/errors.ts'

const refused = (run: () => unknown): LifeboatError | undefined => {
  try {
    run()
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'usage-invalid') return error
    throw error
  }
  return undefined
}

await t.test('durations are read', async (t) => {
  const known: [string, number][] = [
    ['30d', 30 * 86_400_000],
    ['2w', 14 * 86_400_000],
    ['4h', 14_400_000],
    ['1h30m', 5_400_000],
    ['90s', 90_000],
    ['500ms', 500],
    ['1m1ms', 60_001],
    ['0s', 0],
    ['1w2d3h4m5s6ms', 604_800_000 + 2 * 86_400_000 + 3 * 3_600_000 + 4 * 60_000 + 5006],
    ['007s', 7000],
  ]
  for (const [text, ms] of known) t.equal(parseDuration(text), ms, text)
})

await t.test('what is no duration is refused with a hint', async (t) => {
  const bad = [
    '',
    ' ',
    '30',
    '0',
    '-1d',
    '+1d',
    '1.5h',
    '1,5h',
    '1e3s',
    '1 h',
    ' 1h',
    '1h\n',
    'h',
    '1M',
    '1H',
    '1y',
    '1mo',
    '1min',
    '1hours',
    '30m1h',
    '1h1h',
    '1s1m',
    '1h30',
    'P1D',
    '٣d',
    '1d\u0000',
    '99999999999999999999d',
    '9007199254740993ms',
    '9'.repeat(100_000),
    '1d'.repeat(50_000),
    '__proto__',
    '1constructor',
    '1toString',
    'Infinity',
    'NaN',
  ]
  for (const text of bad) {
    const error = refused(() => parseDuration(text))
    t.ok(error?.hint, JSON.stringify(text.slice(0, 30)))
    t.ok((error?.message.length ?? 999) < 200, 'the message stays short')
  }
  t.match(refused(() => parseDuration('30'))?.hint, '30s')
})

await t.test('sizes are read', async (t) => {
  const known: [string, number][] = [
    ['512', 512],
    ['0', 0],
    ['512B', 512],
    ['64MiB', 64 * 2 ** 20],
    ['64 MiB', 64 * 2 ** 20],
    ['16GiB', 16 * 2 ** 30],
    ['1TiB', 2 ** 40],
    ['2PiB', 2 ** 51],
    ['10GB', 1e10],
    ['3kB', 3000],
    ['3KB', 3000],
  ]
  for (const [text, bytes] of known) t.equal(parseSize(text), bytes, text)
})

await t.test('what is no size is refused with a hint', async (t) => {
  const bad = [
    '',
    '-1',
    '1.5GiB',
    '64M',
    '64g',
    '64mib',
    '64Mib',
    '1EiB',
    'GiB',
    '1GiB1MiB',
    '0x10',
    '1e9',
    ' 1',
    '1\n',
  ]
  for (const text of [
    ...bad,
    '9007199254740993',
    '9'.repeat(1000),
    '8PiB1',
    '100000PiB',
    '1constructor',
    '1toString',
  ]) {
    t.ok(refused(() => parseSize(text))?.hint, JSON.stringify(text.slice(0, 30)))
  }
  t.equal(refused(() => parseSize('64M'))?.hint, 'Write MiB or MB.')
  t.equal(refused(() => parseSize('1k'))?.hint, 'Write KiB or kB or KB.')
})

await t.test('what is written is read back', async (t) => {
  const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
  fc.assert(fc.property(count, (ms) => parseDuration(formatDuration(ms)) === ms))
  fc.assert(fc.property(count, (bytes) => parseSize(formatSize(bytes)) === bytes))
  const unit = fc.constantFrom(1, 1000, 1e6, 1e9, 2 ** 10, 2 ** 20, 2 ** 30, 2 ** 40)
  fc.assert(fc.property(fc.integer({ min: 0, max: 8000 }), unit, (n, u) => parseSize(formatSize(n * u)) === n * u))
  t.equal(formatDuration(5_400_000), '1h30m')
  t.equal(formatDuration(0), '0s')
  t.equal(formatDuration(30 * 86_400_000), '30d')
  t.equal(formatSize(64 * 2 ** 20), '64MiB')
  t.equal(formatSize(1536), '1536')
  t.equal(formatSize(0), '0')
})

await t.test('any text gives a number or a usage error', async () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.string({ unit: fc.constantFrom(...Array.from('0123456789wdhmskMGiB. -:/[]%')) }),
      ),
      (text) => {
        for (const parse of [parseDuration, parseSize]) refused(() => parse(text))
        for (const parse of [parseListen, parseFileUrl]) refused(() => parse(text))
      },
    ),
  )
})

await t.test('addresses to listen on', async (t) => {
  t.same(parseListen('127.0.0.1:10187'), { host: '127.0.0.1', port: 10187 })
  t.same(parseListen('[::1]:0'), { host: '::1', port: 0 })
  t.same(parseListen(':10187'), { host: '0.0.0.0', port: 10187 })
  t.same(parseListen('localhost:65535'), { host: 'localhost', port: 65535 })
  const bad = [
    '',
    '10187',
    'localhost',
    '::1:10187',
    '[::1]',
    '[zz]:1',
    '[1.2.3.4]:1',
    '1.2.3:80',
    '256.1.1.1:80',
    'a:65536',
  ]
  for (const text of [...bad, 'a:-1', 'a b:1', 'http://a:1', 'a:1/', 'a:1\n', 'a:1e1', '[::1]]:1', 'a:١']) {
    t.ok(refused(() => parseListen(text))?.hint, JSON.stringify(text))
  }
})

await t.test('file urls', async (t) => {
  const known: [string, string][] = [
    ['file:///var/backups/lifeboat', '/var/backups/lifeboat'],
    ['file:///var/backups/lifeboat/', '/var/backups/lifeboat'],
    ['file:///var//backups/./x/../lifeboat', '/var/backups/lifeboat'],
    ['file:////var', '/var'],
    ['file:///with space', '/with space'],
    ['file:///with%20space/100%25', '/with space/100%'],
    ['file:///a%3Fb%23c', '/a?b#c'],
    ['file:///ü', '/ü'],
    ['file:///a/%2e%2e/b', '/b'],
  ]
  for (const [url, path] of known) t.equal(parseFileUrl(url), path, url)
  const bad = [
    '',
    '/var/x',
    'file:/var/x',
    'file:x',
    'file://',
    'file:///',
    'file:///..',
    'file://host/x',
    'http://x/y',
  ]
  const hostile = ['file:///a\u0000b', 'file:///a%00b', 'file:///a%2fb', 'file:///a%ff', 'file:///a%', 'file:///a\nb']
  for (const url of [...bad, ...hostile, 'file:///a\\b', 'file:///a?b', 'file:///a#b', 'FILE:///a', ' file:///a']) {
    t.ok(refused(() => parseFileUrl(url))?.hint, JSON.stringify(url))
  }
  for (const url of ['s3://bucket/x', 'S3://user:hunter2@bucket', 'https://user:hunter2@host/']) {
    t.notMatch(JSON.stringify(refused(() => parseFileUrl(url))), 'hunter2')
  }
  for (const [url, bucket, prefix] of [
    ['s3://bucket', 'bucket', ''],
    ['s3://bucket/', 'bucket', ''],
    ['s3://my.old_Bucket/a', 'my.old_Bucket', 'a/'],
    ['s3://bucket/a b/ü/', 'bucket', 'a b/ü/'],
  ] as const) {
    t.same(parseRepositoryUrl(url), { bucket, prefix }, url)
  }
  t.same(parseRepositoryUrl('file:///x'), { path: '/x' })
  for (const url of [
    ...['s3:', 's3://', 's3:///a', 'S3://bucket', 's3://b', 's3://-b-', 's3://user:hunter2@bucket/x', 's3://b ucket/x'],
    ...[
      's3://bucket//',
      's3://bucket/a//b',
      's3://bucket/../a',
      's3://bucket/./a',
      's3://bucket/a?b',
      's3://bucket/a#b',
    ],
    ...['s3://bucket/a%20b', 's3://bucket/a\\b', 's3://bucket/a\nb', 's3://bucket/\ud800', ' s3://bucket'],
  ]) {
    const failure = refused(() => parseRepositoryUrl(url))
    t.ok(failure?.hint, JSON.stringify(url))
    t.notMatch(JSON.stringify(failure), 'hunter2')
  }
})

await t.test('suggestions', async (t) => {
  const keys = ['stateDir', 'postgres', 'repositories', 'log']
  t.equal(nearest('state_dir', keys), 'stateDir')
  t.equal(nearest('STATE-DIR', keys), 'stateDir')
  t.equal(nearest('postgers', keys), 'postgres')
  t.equal(nearest('repository', keys), 'repositories')
  t.equal(nearest('lgo', keys), 'log')
  t.equal(nearest('nothingAlike', keys), undefined)
  t.equal(nearest('x'.repeat(1_000_000), keys), undefined)
  t.equal(nearest('x', []), undefined)
  t.equal(quote('a\n"b'), '"a\\n\\"b"')
})
