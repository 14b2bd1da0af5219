pub(crate) mod update {
    use crate::bots::BotKey;

    /// An update that is its number alone.
    #[derive(Debug)]
    pub(crate) struct Update(pub(crate) u32);

    #[derive(Debug)]
    pub(crate) struct Recycled(pub(crate) u32);

    impl Update {
        pub(crate) fn bot(&self) -> BotKey {
            BotKey
        }

        pub(crate) fn id(&self) -> u32 {
            self.0
        }

        pub(crate) fn recycle(self) -> Recycled {
            Recycled(self.0)
        }
    }
}
