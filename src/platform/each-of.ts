/** Does the work for every item, at most so many at once; the results in the order of the items. The first failure is thrown, and nothing is begun after it. */
export async function eachOf<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  const waiting = items.entries()
  const worker = async (): Promise<void> => {
    for (const [index, item] of waiting) results[index] = await work(item)
  }
  try {
    await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker))
    return results
  } catch (error) {
    // The others find nothing left to begin.
    for (const _ of waiting);
    throw error
  }
}
