import fc from 'fast-check'
import t from 'tap'
import { checkKey, compareKeys, isSegment, splitPrefix } from '../../src/storage/keys.ts'

/** Any text at all, with a bias towards what breaks paths. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc
    .array(fc.constantFrom('/', '.', '..', '\\', '\0', 'a', '\ud800', '\udc00', ' ', '\n', 'ü'), { maxLength: 8 })
    .map((parts) => parts.join('')),
)

await t.test('an accepted key stays below the root and is itself when written as UTF-8', async (t) => {
  fc.assert(
    fc.property(anyText, (text) => {
      try {
        checkKey(text)
      } catch (error) {
        return (error as { code?: string }).code === 'usage-invalid'
      }
      const resolved = new URL(`file:///root/${text.split('/').map(encodeURIComponent).join('/')}`)
      const path = decodeURIComponent(resolved.pathname)
      return path === `/root/${text}` && Buffer.from(text).toString() === text && !/[\0\\]/.test(text)
    }),
    { numRuns: 2000 },
  )
  t.equal(checkKey('a/b'), 'a/b')
})

await t.test('every prefix of a key is a prefix that can be listed', async (t) => {
  fc.assert(
    fc.property(anyText, fc.nat(), (text, length) => {
      if (!text.split('/').every(isSegment)) return true
      const prefix = text.slice(0, length % (text.length + 1))
      if (!prefix.isWellFormed()) return true
      const { folder, rest } = splitPrefix(prefix)
      return folder + rest === prefix && !rest.includes('/')
    }),
    { numRuns: 2000 },
  )
  t.same(splitPrefix('a/b/c'), { folder: 'a/b/', rest: 'c' })
})

await t.test('keys are in the order of their bytes', async (t) => {
  const wellFormed = fc.string({ unit: 'binary' })
  fc.assert(
    fc.property(wellFormed, wellFormed, (a, b) => {
      return Math.sign(compareKeys(a, b)) === Buffer.compare(Buffer.from(a), Buffer.from(b))
    }),
    { numRuns: 2000 },
  )
  t.ok(compareKeys('\ue000', '😀') < 0)
})
