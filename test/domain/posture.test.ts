import t from 'tap'
import {
  type BucketFacts,
  judgePosture,
  type LifecycleRule,
  type PostureCheck,
  type PostureNeeds,
} from '../../src/domain/posture.ts'

const day = 86_400

const good: BucketFacts = {
  versioning: { value: 'on' },
  lock: { value: { mode: 'COMPLIANCE', seconds: 90 * day } },
  lifecycle: { value: [rule({ removesOldVersions: true, abortsUploads: true })] },
  ...{ publicPolicy: { value: false }, publicAcl: { value: false }, publicBlock: { value: true } },
  ...{ encryption: { value: 'AES256' }, isPrivate: true, clockBehindMs: 800 },
}

const needs: PostureNeeds = {
  ...{ prefix: 'prod/', cluster: 'spavix', keepForSeconds: 90 * day, longestSeconds: 366 * day, walSeconds: 90 * day },
  ...{ tags: {}, ownLockSeconds: null, encrypts: false },
}

function rule(changes: Partial<LifecycleRule>): LifecycleRule {
  const nothing = {
    expiresAfterSeconds: null,
    freezesAfterSeconds: null,
    removesOldVersions: false,
    abortsUploads: false,
  }
  return { id: 'r', prefix: '', tags: {}, ...nothing, ...changes }
}

/** What is weak, or not known. */
function weak(facts: Partial<BucketFacts>, more: Partial<PostureNeeds> = {}): string[] {
  return judgePosture({ ...good, ...facts }, { ...needs, ...more }).flatMap((one) =>
    one.state === 'good' ? [] : [`${one.check} ${one.state}: ${one.state === 'weak' ? one.what : one.why}`],
  )
}

t.test('a bucket that is set up well', async (t) => {
  t.same(weak({}), [])
})

t.test('each weakness by itself', async (t) => {
  const cases: readonly (readonly [PostureCheck, RegExp, Partial<BucketFacts>, Partial<PostureNeeds>?])[] = [
    ['versioning', /versioning is off/, { versioning: { value: 'off' } }],
    ['versioning', /versioning is suspended/, { versioning: { value: 'suspended' } }],
    ['object_lock', /Object Lock is off/, { lock: { value: null } }],
    ['object_lock', /nothing locks what is put/, { lock: { value: { mode: null, seconds: 0 } } }],
    [
      'lock_duration',
      /30 d, and keepFor is 90 d: backups outlive/,
      { lock: { value: { mode: 'GOVERNANCE', seconds: 30 * day } } },
    ],
    [
      'lock_duration',
      /91 d, and keepFor is 90 d: locks outlive/,
      { lock: { value: { mode: 'GOVERNANCE', seconds: 91 * day } } },
    ],
    ['lock_duration', /keepFor is for ever: backups outlive/, {}, { keepForSeconds: null }],
    ['lock_duration', /10 d, and keepFor/, {}, { ownLockSeconds: 10 * day }],
    ['public_access', /is public/, { publicPolicy: { value: true } }],
    ['public_access', /is public/, { publicAcl: { value: true }, publicPolicy: { unknown: 'x' } }],
    ['public_access_block', /not blocked/, { publicBlock: { value: false } }],
    ['encryption', /as it is/, { encryption: { value: null } }],
    ['tls', /plain http/, { isPrivate: false }],
    ['clock', /is 3 h behind/, { clockBehindMs: 3 * 3_600_000 }],
    ['clock', /is 7 min ahead of/, { clockBehindMs: -7 * 60_000 }],
  ]
  for (const [check, words, facts, more] of cases) {
    const found = weak(facts, more)
    t.equal(found.length, 1, found.join('\n'))
    t.ok(found[0]?.startsWith(`${check} weak`), check)
    t.match(found[0], words)
  }
  t.same(weak({ lock: { value: { mode: null, seconds: 0 } } }, { ownLockSeconds: 90 * day }), [], 'uploads lock')
  t.same(weak({}, { ownLockSeconds: Number.POSITIVE_INFINITY, keepForSeconds: null }), [], 'a legal hold')
  t.same(weak({ encryption: { value: null } }, { encrypts: true }), [])
  t.same(
    weak({ lock: { value: { mode: 'GOVERNANCE', seconds: day } } }, { keepForSeconds: 3600 }),
    [],
    'locks are of days',
  )
})

t.test('lifecycle rules that delete or freeze what is needed', async (t) => {
  const sound = rule({ removesOldVersions: true, abortsUploads: true })
  const of = (changes: Partial<LifecycleRule>) => weak({ lifecycle: { value: [sound, rule(changes)] } })
  for (const [words, changes] of [
    [/"r" deletes backups after 30 d: needed for 366 d/, { expiresAfterSeconds: 30 * day }],
    [/deletes backups/, { expiresAfterSeconds: 30 * day, prefix: 'prod/' }],
    [/deletes backups/, { expiresAfterSeconds: 30 * day, prefix: 'prod/spavix/backups/2026' }],
    [/deletes WAL after 89 d/, { expiresAfterSeconds: 89 * day, prefix: 'prod/spavix/wal/' }],
    [/deletes holds after 400 d: needed for ever/, { expiresAfterSeconds: 400 * day }],
    [/deletes repository.json/, { expiresAfterSeconds: 400 * day, prefix: 'prod/spavix/r' }],
    [/moves backups to cold storage after 1 d/, { freezesAfterSeconds: day }],
  ] as const) {
    const found = of(changes)
    t.equal(found.length, 1)
    t.match(found[0], words)
  }
  for (const harmless of [
    { expiresAfterSeconds: day, prefix: 'logs/' },
    { expiresAfterSeconds: day, prefix: 'prod/other/' },
    { expiresAfterSeconds: day, tags: { temporary: 'yes' } },
    { expiresAfterSeconds: 367 * day, prefix: 'prod/spavix/backups/' },
    { expiresAfterSeconds: 91 * day, prefix: 'prod/spavix/wal/' },
  ]) {
    t.same(of(harmless), [], JSON.stringify(harmless))
  }
  const tagged = { lifecycle: { value: [sound, rule({ expiresAfterSeconds: day, tags: { team: 'dba' } })] } }
  t.equal(weak(tagged, { tags: { team: 'dba', more: 'x' } }).length, 1, 'ours have that tag')
})

t.test('rules that should be there', async (t) => {
  t.match(weak({ lifecycle: { value: [] } }), [/old_versions weak/, /abort_uploads weak/])
  t.match(weak({ lifecycle: { value: [] }, versioning: { value: 'off' } }), [/versioning weak/, /abort_uploads weak/])
  const elsewhere = rule({ removesOldVersions: true, abortsUploads: true, prefix: 'other/' })
  t.equal(weak({ lifecycle: { value: [elsewhere] } }).length, 2)
})

t.test('what nobody can tell is neither good nor weak', async (t) => {
  const no = { unknown: 'these keys may not read it' }
  const nothing = {
    versioning: no,
    lock: no,
    lifecycle: no,
    publicPolicy: no,
    publicAcl: no,
    publicBlock: no,
    encryption: no,
  }
  const found = judgePosture({ ...good, ...nothing }, needs)
  t.same(
    found.filter(({ state }) => state !== 'unknown').map(({ check }) => check),
    ['tls', 'clock'],
  )
  t.equal(weak({ publicAcl: no }).length, 1, 'half of the answer is none')
})
