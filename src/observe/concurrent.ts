/**
 * Applies `work` to everything that `source` yields, at most `limit` at a time, and gives the results in the order of
 * the source. The first failure or abort stops it, lets what is under way end, closes the source, and is thrown.
 */
export async function mapConcurrently<T, R>(
  source: AsyncIterable<T>,
  limit: number,
  signal: AbortSignal,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const iterator = source[Symbol.asyncIterator]()
  const results: R[] = []
  let index = 0
  let failed = false

  async function worker(): Promise<void> {
    while (!failed) {
      signal.throwIfAborted()
      const next = await iterator.next()
      if (next.done === true) return
      // `next` answers in the order of the calls, so this numbering is the order of the source.
      const at = index++
      results[at] = await work(next.value)
    }
  }

  const workers = Array.from({ length: limit }, async () => {
    try {
      await worker()
    } catch (error) {
      failed = true
      throw error
    }
  })
  const outcomes = await Promise.allSettled(workers)
  const failure = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failure === undefined) return results
  await iterator.return?.()
  throw failure.reason
}
