import fc from 'fast-check'
import t from 'tap'
import { backupId, compactUtc, isBackupId, parseBackupId } from '../../src/domain/backup.ts'
import { errorCodes, LifeboatError, toFailure } from '../../src/domain/errors.ts'
import {
  isRestoreProof,
  type LevelResult,
  overallVerdict,
  type Proof,
  type Verdict,
  type VerificationLevel,
} from '../../src/domain/proof.ts'

t.test('a backup id gives back its moment and type', async (t) => {
  t.equal(backupId(new Date('2025-03-04T05:06:07.999Z'), 'dump', '0a1b2c'), '20250304T050607Z-dump-0a1b2c')
  fc.assert(
    fc.property(
      fc.date({ min: new Date('0000-01-01'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true }),
      fc.constantFrom('dump', 'full', 'incremental'),
      fc.integer({ min: 0, max: 0xffffff }),
      (at, type, random) => {
        const id = backupId(at, type, random.toString(16).padStart(6, '0'))
        const whole = new Date(Math.floor(at.getTime() / 1000) * 1000)
        t.ok(isBackupId(id))
        t.same(parseBackupId(id), { at: whole, type })
      },
    ),
  )
  const [one, other] = [new Date('2024-12-31T23:59:59Z'), new Date('2025-01-01T00:00:00Z')].map(compactUtc)
  t.ok(String(one) < String(other), 'moments sort as text')
})

t.test('what is no backup id', async (t) => {
  const good = '20250304T050607Z-dump-0a1b2c'
  t.ok(isBackupId(good))
  for (const text of [
    '',
    `${good}\n`,
    ` ${good}`,
    `${good}/..`,
    `../${good}`,
    good.toUpperCase(),
    good.replace('dump', 'external'),
    good.replace('dump', 'constructor'),
    good.replace('0a1b2c', '0a1b2g'),
    good.replace('0a1b2c', '0a1b2'),
    good.replace('0a1b2c', '0a1b2c3'),
    good.replace('20250304', '20250229'),
    good.replace('20250304', '20250431'),
    good.replace('20250304', '20251304'),
    good.replace('20250304', '20250300'),
    good.replace('20250304', '20250004'),
    good.replace('050607', '240000'),
    good.replace('050607', '056007'),
    good.replace('050607', '050660'),
    good.replace('2025', '٢٠٢٥'),
    'manifest.json',
    '__proto__',
  ]) {
    t.equal(parseBackupId(text), null, JSON.stringify(text))
  }
  t.ok(isBackupId(good.replace('20250304', '20240229')))
})

const level = (verdict: Verdict): LevelResult => ({ verdict, checks: [], finishedAt: '', durationSeconds: 0 })

t.test('the verdict of a proof is that of its worst level', async (t) => {
  const overall = (artifact?: Verdict, restore?: Verdict, data?: Verdict, asked: VerificationLevel = 'artifact') =>
    overallVerdict({
      level: asked,
      levels: {
        ...(artifact ? { artifact: level(artifact) } : {}),
        ...(restore ? { restore: level(restore) } : {}),
        ...(data ? { data: level(data) } : {}),
      },
    })
  t.equal(overall(), 'inconclusive', 'no level at all')
  t.equal(overall('pass', 'pass', 'pass'), 'pass')
  t.equal(overall('pass', 'inconclusive', 'pass', 'data'), 'inconclusive')
  t.equal(overall('pass', 'pass', undefined, 'data'), 'inconclusive', 'the level that was asked for was not reached')
  t.equal(overall('pass', undefined, 'pass', 'data'), 'inconclusive', 'nor one on the way')
  t.equal(overall('pass', 'fail', undefined, 'data'), 'fail', 'but what failed has failed')
  t.equal(overall('pass', 'pass', undefined, 'restore'), 'pass')
  t.equal(overall('inconclusive', 'pass', 'fail'), 'fail')
  t.equal(overall('fail', 'inconclusive'), 'fail')
})

t.test('what proves that a backup can be restored', async (t) => {
  const [pass, fail, inconclusive] = [level('pass'), level('fail'), level('inconclusive')]
  const proves = (asked: VerificationLevel, levels: Proof['levels']) => isRestoreProof({ level: asked, levels })
  t.ok(proves('restore', { artifact: pass, restore: pass }))
  t.ok(proves('data', { artifact: pass, restore: pass, data: pass }))
  t.notOk(proves('restore', {}))
  t.notOk(proves('artifact', { artifact: pass }), 'nothing was restored')
  t.notOk(proves('data', { artifact: pass, data: pass }))
  t.notOk(proves('data', { artifact: pass, restore: pass }), 'it stopped before the data was compared')
  t.notOk(proves('restore', { artifact: pass, restore: inconclusive }))
  t.notOk(proves('data', { artifact: pass, restore: pass, data: fail }))
  t.notOk(proves('data', { artifact: pass, restore: pass, data: inconclusive }))
})

t.test('errors', async (t) => {
  const cause = new Error('below')
  const error = new LifeboatError('disk-full', 'no space', { hint: 'free some', details: { bytes: 1 }, cause })
  t.match(error, { name: 'LifeboatError', code: 'disk-full', message: 'no space', hint: 'free some', cause })
  t.same(
    toFailure(error),
    { code: 'disk-full', message: 'no space', hint: 'free some' },
    'details and cause stay inside',
  )
  t.same(toFailure(new LifeboatError('conflict', 'x')), { code: 'conflict', message: 'x' })
  t.notOk('cause' in new LifeboatError('conflict', 'x'))
  t.same(toFailure(new TypeError('bug')), { code: 'unexpected', message: 'bug' })
  t.same(toFailure('text'), { code: 'unexpected', message: 'text' })
  t.same(toFailure(undefined), { code: 'unexpected', message: 'undefined' })
  for (const [code, { exit, http }] of Object.entries(errorCodes)) {
    t.match(code, /^[a-z]+(-[a-z]+)*$/)
    t.ok(exit > 0 && exit < 256 && http >= 400 && http < 600, code)
  }
})
